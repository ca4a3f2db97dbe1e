"""What the registry holds: sources as `weir apply` declares them, keys as `weir keys` makes them, goals of the API."""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

DAY_SECONDS = 86_400
MAX_DEDUP_WINDOW_SECONDS = 7 * DAY_SECONDS

SourceKind = Literal["browser", "server"]
Period = Literal["minute", "hour", "day", "month"]
Unit = Literal["events", "bytes"]
Casing = Literal["TitleCase", "camelCase", "snake_case", "kebab-case"]
QuotaAction = Literal["reject", "mark"]
GoalType = Literal["event", "path"]
Scope = Literal["write", "read", "admin"]

# What an encrypted secret begins with, and none in plain may.
SEALED = "sealed:"


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most `limit` accepted `unit`s a `period` (UTC); beyond it `reject` (429) or `mark`."""

    name: str
    period: Period
    unit: Unit = "events"
    limit: int
    action: QuotaAction = "reject"


EVERY_EVENT = "*"


class IdMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a source's profile-less events of one name hold ids: paths into properties, `customer.id`."""

    event: str  # its name, or EVERY_EVENT
    user_id: str = ""
    anonymous_id: str = ""
    profile_id: str = ""
    session_id: str = ""


class Source(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One sender of events. Keys are stored as SHA-256 hex digests only.

    Written without what is as by default, so that services of an earlier version read it too.
    """

    id: str
    workspace: str = "default"
    kind: SourceKind = "server"
    write_key_hashes: tuple[str, ...] = ()
    read_key_hashes: tuple[
        str, ...
    ] = ()  # of keys that may read the site's goals and their figures
    admin_key_hashes: tuple[
        str, ...
    ] = ()  # of keys that may also change the goals, and have people erased
    allowed_origins: tuple[str, ...] = ()
    dedup_window_seconds: int = DAY_SECONDS
    events_per_second: float = 0.0  # 0: no limit of its own
    events_burst: int = 0  # 0: twice events_per_second
    quotas: tuple[Quota, ...] = ()
    mappings: tuple[IdMapping, ...] = ()
    # the id alone lets in, at the doors that send no key (/collect, /track, /ingest): who knows it may send
    open_by_id: bool = False
    sites: tuple[
        str, ...
    ] = ()  # host names whose pages send by no more than their Origin (/ingest)
    # of senders that sign what they send: the registry has them encrypted, a gateway opens them
    signing_secrets: tuple[str, ...] = ()
    # at which doors (by the name in the column `door`; `*`: every one) it takes unsigned requests
    # though it has signing secrets
    unsigned_doors: tuple[str, ...] = ()
    blocked_ids: tuple[str, ...] = ()  # values that are no ids, besides those of `BlockedIds`
    block_default_ids: bool = True
    event_casing: Casing | None = None  # how event names are to be written
    enforce_casing: bool = False  # refuse others; else they are taken, and the answer warns
    enabled: bool = True

    @property
    def key_hashes(self) -> tuple[str, ...]:
        """Of its keys of every kind."""
        return self.write_key_hashes + self.read_key_hashes + self.admin_key_hashes


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key of a source's that `weir keys` made, beside those of its file. The key itself is nowhere."""

    digest: str  # see `hash_key`; its id in the registry
    source: str
    scope: Scope
    name: str = ""  # for people
    created_at: int  # epoch milliseconds
    ends_at: int = 0  # epoch milliseconds, from which on it is refused; 0: never

    def in_force(self, now_ms: int) -> bool:
        return not self.ends_at or now_ms < self.ends_at


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site counts as a conversion: an event of this name, or a page view of this path, exactly."""

    id: str  # UUID
    site_id: str  # a source's id
    name: str
    type: GoalType
    value: str
    created_at: str  # RFC 3339

    @property
    def entry_id(self) -> str:
        """Its id among all goals of the registry, sites first: a site's id has no slash."""
        return f"{self.site_id}/{self.id}"


def hash_key(key: str) -> str:
    """The form in which a key is stored and looked up. Keys are random, so no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_sealed(secret: str) -> bool:
    """Whether a signing secret is encrypted, and so says nothing of itself."""
    return secret.startswith(SEALED)


def with_keys(source: Source, keys: Iterable[ApiKey]) -> Source:
    """The source, let in by these keys too."""
    added: dict[Scope, tuple[str, ...]] = {"write": (), "read": (), "admin": ()}
    for key in keys:
        added[key.scope] += (key.digest,)
    if not any(added.values()):
        return source
    return msgspec.structs.replace(
        source,
        write_key_hashes=source.write_key_hashes + added["write"],
        read_key_hashes=source.read_key_hashes + added["read"],
        admin_key_hashes=source.admin_key_hashes + added["admin"],
    )
