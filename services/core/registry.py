"""What the registry holds: sources, their keys, policies, limits. Declared in YAML, applied by `weir apply`."""

import hashlib
from typing import Literal

import msgspec

DAY_SECONDS = 86_400
MAX_DEDUP_WINDOW_SECONDS = 7 * DAY_SECONDS

SourceKind = Literal["browser", "server"]
Period = Literal["minute", "hour", "day", "month"]
Unit = Literal["events", "bytes"]
QuotaAction = Literal["reject", "mark"]


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most `limit` accepted `unit`s a `period` (UTC); beyond it `reject` (429) or `mark`."""

    name: str
    period: Period
    unit: Unit = "events"
    limit: int
    action: QuotaAction = "reject"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sender of events. Keys are stored as SHA-256 hex digests only."""

    id: str
    workspace: str = "default"
    kind: SourceKind = "server"
    write_key_hashes: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    dedup_window_seconds: int = DAY_SECONDS
    events_per_second: float = 0.0  # 0: no limit of its own
    events_burst: int = 0  # 0: twice events_per_second
    quotas: tuple[Quota, ...] = ()
    open_webhooks: bool = False  # the source id alone lets webhooks in: who knows the URL may send
    enabled: bool = True


def hash_key(key: str) -> str:
    """The form in which a write key is stored and looked up. Keys are random, so no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()
