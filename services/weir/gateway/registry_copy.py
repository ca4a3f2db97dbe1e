"""The gateway's copy of the registry and of quota usage: which sources may send, what, and how much."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

from weir.adapters import avro
from weir.adapters.kafka.clients import Entry
from weir.adapters.kafka.table_entries import apply_entries
from weir.core import topics
from weir.core.registry import Quota, Source, hash_key, is_sealed, with_keys
from weir.gateway.http.error_codes import Problem
from weir.gateway.http.rate_limits import Bucket
from weir.gateway.http.request_headers import site_of
from weir.gateway.ingest.accepted_writer import SourceFields
from weir.gateway.ingest.parsed_events import Credentials
from weir.registry.follower import Keys, Sources
from weir.registry.secret_encryption import SecretEncryption
from weir.runtime import logs

KEYS_REMEMBERED = 10_000
ANY_ORIGIN = "*"


@dataclass(frozen=True)
class QuotaConsumed:
    """The usage of a quota in the period that ends at `resets_at` (epoch milliseconds)."""

    period: str
    unit: str
    used: int
    resets_at: int


@dataclass
class SourceView:
    """A source with its keys in force and decrypted secrets, and what doors need of it, precomputed."""

    source: Source
    fields: SourceFields
    bucket: Bucket | None
    exceeded: list[tuple[Quota, int]] = field(default_factory=list)  # with the end of its period

    def exceeded_at(self, now_ms: int) -> tuple[Quota | None, int, bool]:
        """Return (the quota that rejects events now or None, the end of its period, whether a quota marks events)."""
        marked = False
        for quota, resets_at in self.exceeded:
            if now_ms >= resets_at:
                continue
            match quota.action:
                case "reject":
                    return quota, resets_at, marked
                case "mark":
                    marked = True
                case _:
                    assert_never(quota.action)
        return None, 0, marked

    def allows(self, origin: str) -> bool:
        """Check whether pages of an origin may send; pages of the source's sites always may."""
        origins = self.source.allowed_origins
        if ANY_ORIGIN in origins or origin in origins:
            return True
        return bool(self.source.sites) and site_of(origin) in self.source.sites


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Registry:
    """All sources by key and by id, with their quota usage. Use it only in the event loop's thread."""

    def __init__(
        self,
        processes: int = 1,
        sealing: SecretEncryption | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.loaded = False
        self.by_id: dict[str, SourceView] = {}
        self._processes = processes
        self._sealing = sealing or SecretEncryption()
        self._clock = clock
        self._log = logs.get("gateway")
        self._sources = Sources()
        self._keys = Keys()
        self._next_end = 0  # when the next key in force ends, epoch milliseconds; 0: none ends
        self._uses: dict[str, dict[str, QuotaConsumed]] = {}
        self._by_hash: dict[str, SourceView] = {}
        self._by_key: dict[str, SourceView] = {}  # valid keys seen so far; bounded
        self._by_site: dict[str, SourceView] = {}
        self._origins: set[str] = set()

    def find(self, key: str) -> SourceView | None:
        """Return the enabled source that a write key belongs to."""
        view = self._by_key.get(key)
        if view is None:
            view = self._by_hash.get(hash_key(key))
            if view is not None and len(self._by_key) < KEYS_REMEMBERED:
                self._by_key[key] = view
        return view

    def claimed(self, credentials: Credentials) -> SourceView | None:
        """Return the enabled source that a request may send to."""
        if credentials.key:
            view = self.find(credentials.key)
            is_its = view is None or not credentials.source or view.source.id == credentials.source
            return view if is_its else None
        if credentials.source:
            view = self.by_id.get(credentials.source)
            is_open = view is not None and view.source.enabled and view.source.open_by_id
            return view if is_open else None
        return self._by_site.get(credentials.site) if credentials.site else None

    def knows_origin(self, origin: str) -> bool:
        """Check whether any source takes events from pages of an origin: a preflight has no key to name one."""
        if ANY_ORIGIN in self._origins or origin in self._origins:
            return True
        return bool(self._by_site) and site_of(origin) in self._by_site

    def apply_sources(self, entries: Iterable[Entry]) -> None:
        apply_entries(topics.REGISTRY, entries, self._apply_entry)
        self._renew(self._sources.take_changed() | self._keys.take_changed())
        self.loaded = True

    def _apply_entry(self, key: bytes, value: bytes | None) -> None:
        self._sources.apply(key, value)
        self._keys.apply(key, value)

    def end_keys(self) -> None:
        """Stop accepting the keys whose end has come. Call it every second."""
        if not self._next_end or self._clock() < self._next_end:
            return
        self._renew({key.source for key in self._keys.by_digest.values() if key.ends_at})

    def explained(self, key: str, trouble: Problem) -> Problem:
        """Return `trouble`; but if it is `unauthorized` and the key has ended, a problem that says so."""
        ended = self._keys.by_digest.get(hash_key(key)) if key else None
        if trouble.code != "unauthorized" or ended is None or ended.in_force(self._clock()):
            return trouble
        end = datetime.fromtimestamp(ended.ends_at / 1_000, UTC)
        return Problem("unauthorized", f"This key ended at {end:%Y-%m-%dT%H:%M:%SZ}.")

    def _renew(self, source_ids: Iterable[str]) -> None:
        for source_id in source_ids:
            try:
                self._change(source_id)
            except (ArithmeticError, ValueError) as fault:  # one bad entry must not stop the others
                text = "the entry of a source cannot be used, the one before stays in force"
                self._log.error(text, source=source_id, fault=repr(fault))
        now = self._clock()
        ends = [key.ends_at for key in self._keys.by_digest.values() if key.ends_at > now]
        self._next_end = min(ends, default=0)
        enabled = [view for view in self.by_id.values() if view.source.enabled]
        self._by_key.clear()
        self._by_hash = {h: view for view in enabled for h in view.source.write_key_hashes}
        self._by_site = {site: view for view in enabled for site in view.source.sites}
        self._origins = {o for view in enabled for o in view.source.allowed_origins}

    def apply_usage(self, entries: Iterable[Entry]) -> None:
        """Apply quota usage. Usage of unknown sources or removed quotas rejects no events."""
        apply_entries(topics.QUOTAS, entries, self._apply_usage)

    def _apply_usage(self, key: bytes, value: bytes | None) -> None:
        source_id = key.decode()
        if value is None:
            self._uses.pop(source_id, None)
        else:
            _, usage = avro.decode_any(value)
            self._uses[source_id] = {
                q["name"]: QuotaConsumed(q["period"], q["unit"], q["used"], q["resets_at"])
                for q in usage["quotas"]
            }
        if view := self.by_id.get(source_id):
            self._weigh(view)

    def _change(self, source_id: str) -> None:
        source = self._sources.by_id.get(source_id)
        if source is None:
            self.by_id.pop(source_id, None)
            return
        now = self._clock()
        source = with_keys(source, [k for k in self._keys.of(source_id) if k.in_force(now)])
        source = self._sealing.opened(source)
        if any(map(is_sealed, source.signing_secrets)):
            self._log.error(
                "signing secrets cannot be decrypted: set WEIR_SECRETS_KEY as for `weir apply`;"
                " until then requests that are signed with them are answered with 503",
                source=source_id,
            )
        before = self.by_id.get(source_id)
        same_rate = before is not None and _rate(before.source) == _rate(source)
        bucket = before.bucket if before is not None and same_rate else self._bucket(source)
        view = self.by_id[source_id] = SourceView(source, SourceFields.of(source), bucket)
        self._weigh(view)

    def _bucket(self, source: Source) -> Bucket | None:
        if not source.events_per_second:
            return None
        rate, burst = _rate(source)
        return Bucket(rate / self._processes, max(1.0, burst / self._processes))

    def _weigh(self, view: SourceView) -> None:
        """Compare usage with the limits in force: a raised or removed limit counts before `rates` reports again."""
        uses = self._uses.get(view.source.id, {})
        view.exceeded = [
            (quota, use.resets_at)
            for quota in view.source.quotas
            if (use := uses.get(quota.name)) is not None
            and (use.period, use.unit) == (quota.period, quota.unit)
            and use.used >= quota.limit
        ]


def _rate(source: Source) -> tuple[float, float]:
    return source.events_per_second, source.events_burst or 2 * source.events_per_second
