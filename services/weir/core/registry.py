"""Contents of the registry: sources from `weir apply`, keys from `weir keys`, goals from the API."""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DAY_SECONDS = 86_400
MAX_DEDUP_WINDOW_SECONDS = 7 * DAY_SECONDS
SESSION_GAP_SECONDS = 30 * 60

SourceKind = Literal["browser", "server"]
Period = Literal["minute", "hour", "day", "month"]
# accepted events, repeats included; events without their repeats; bytes of accepted records
Unit = Literal["events", "unique_events", "bytes"]
Casing = Literal["TitleCase", "camelCase", "snake_case", "kebab-case"]
QuotaAction = Literal["reject", "mark"]
GoalType = Literal["event", "path"]
Scope = Literal["write", "read", "admin"]

# Prefix of an encrypted secret; a secret in plain text must not begin with it.
SEALED = "sealed:"


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most `limit` accepted `unit`s per `period` (UTC); further events are rejected (429) or marked."""

    name: str
    period: Period
    unit: Unit = "events"
    limit: Annotated[int, Meta(le=(1 << 63) - 1)]  # Avro's and ClickHouse's numbers end there
    action: QuotaAction = "reject"


EVERY_EVENT = "*"


class IdMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a source's profile-less events of one name hold ids: paths into the properties, like `customer.id`."""

    event: str  # the event's name, or EVERY_EVENT
    user_id: str = ""
    anonymous_id: str = ""
    profile_id: str = ""
    session_id: str = ""


class Source(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One sender of events. Keys are stored only as SHA-256 hex digests.

    Fields with default values are not written, so that services of an earlier version can read it.
    """

    id: str
    workspace: str = "default"
    kind: SourceKind = "server"
    write_key_hashes: tuple[str, ...] = ()
    # keys that may read the site's goals and their figures
    read_key_hashes: tuple[str, ...] = ()
    # keys that may also change the goals and request erasures
    admin_key_hashes: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    dedup_window_seconds: int = DAY_SECONDS
    session_gap_seconds: int = SESSION_GAP_SECONDS  # without an event for longer, a visit has ended
    events_per_second: float = 0.0  # 0: no limit for this source
    events_burst: int = 0  # 0: twice events_per_second
    quotas: tuple[Quota, ...] = ()
    mappings: tuple[IdMapping, ...] = ()
    # at doors whose clients send no key (/collect, /track, /ingest): any client that knows the id may send
    open_by_id: bool = False
    # host names whose pages may send with only their Origin as proof (/ingest)
    sites: tuple[str, ...] = ()
    # secrets of senders that sign their requests: encrypted in the registry, decrypted by gateways
    signing_secrets: tuple[str, ...] = ()
    # doors (by the name in the column `door`; `*`: all) that take unsigned requests of this source
    # although it has signing secrets
    unsigned_doors: tuple[str, ...] = ()
    blocked_ids: tuple[str, ...] = ()  # values that are not ids, in addition to `BLOCKED`
    block_default_ids: bool = True
    event_casing: Casing | None = None  # the casing that event names should have
    # reject names in another casing; otherwise accept them, with a warning in the response
    enforce_casing: bool = False
    enabled: bool = True

    @property
    def key_hashes(self) -> tuple[str, ...]:
        """The hashes of its keys of every scope."""
        return self.write_key_hashes + self.read_key_hashes + self.admin_key_hashes


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source's key made by `weir keys`, in addition to those of the sources file. Only its digest is stored."""

    digest: str  # see `hash_key`; also its id in the registry
    source: str
    scope: Scope
    name: str = ""  # for operators only
    created_at: int  # epoch milliseconds
    ends_at: int = 0  # epoch milliseconds, from when on the key is invalid; 0: never

    def in_force(self, now_ms: int) -> bool:
        return not self.ends_at or now_ms < self.ends_at


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site counts as a conversion: an event with exactly this name, or a page view of exactly this path."""

    id: str  # UUID
    site_id: str  # a source's id
    name: str
    type: GoalType
    value: str
    created_at: str  # RFC 3339

    @property
    def entry_id(self) -> str:
        """The goal's id in the registry: site id, slash, goal id. A site id contains no slash."""
        return f"{self.site_id}/{self.id}"


def hash_key(key: str) -> str:
    """Return the digest by which a key is stored and looked up. Keys are random, so no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_sealed(secret: str) -> bool:
    """Check whether a signing secret is encrypted."""
    return secret.startswith(SEALED)


def with_keys(source: Source, keys: Iterable[ApiKey]) -> Source:
    """Return the source with these keys added."""
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
