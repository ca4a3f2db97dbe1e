"""The identity stage: read the leading fields of records, decide, and append profile and session to the bytes."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from weir.adapters import avro
from weir.adapters.receipt_records import encode_receipt
from weir.adapters.record_origin import EventOrigin, OriginReader
from weir.core import reasons, topics
from weir.core.batch import (
    MINUTE_MS,
    Batch,
    BatchResult,
    Load,
    Output,
    RefusedRecord,
    SizesAndIds,
    id_checksum,
)
from weir.core.blocked_ids import DEFAULT
from weir.core.identifiers import LEGACY_IDS, SEPARATOR, ProfileIds, workspace_key
from weir.core.registry import SESSION_GAP_SECONDS
from weir.core.stages import IDENTITY
from weir.identity.decisions import Decisions, Erased, Merge, Reroute, Resolved, Unsaved
from weir.identity.erasure_markers import MARKERS_KEY, AllMarkers
from weir.identity.id_rewrite import BlockedOf, IdMapper, MappingsOf
from weir.identity.messages import Erase, IdentityEvent, Item
from weir.identity.person import Person
from weir.identity.person_cache import PersonCache
from weir.identity.reader import ItemReader
from weir.identity.receipts import dead_receipt
from weir.identity.snapshot import encode_person
from weir.identity.step import ErasedUntil, IdentifierKey, People, decide

GapOf = Callable[[str], int]  # returns the session gap of a source in seconds


_long = lru_cache(maxsize=1_024)(avro.long)


class ResolvedHeaders(dict[bytes, bytes]):
    """The header of the resolved event (with profile and session appended), by the header of the accepted event."""

    def __missing__(self, header: bytes) -> bytes:
        accepted = avro.schema_of(header)
        self[header] = avro.catalogue.resolved(accepted).header
        return self[header]


class IdentityStage:
    """A `weir.core.batch.Step`: writes events with their profile and session to `events.resolved`."""

    name = IDENTITY.name
    writes = IDENTITY.outputs

    def __init__(
        self,
        mappings_of: MappingsOf = lambda source: (),
        ids: ProfileIds = LEGACY_IDS,
        blocked_of: BlockedOf = lambda source: DEFAULT,
        gap_of: GapOf = lambda source: SESSION_GAP_SECONDS,
    ) -> None:
        """`ids`: mints the profile ids of this installation."""
        self._schemas = avro.schemas()
        self._resolved_headers = ResolvedHeaders()
        self._reader = ItemReader()
        self._origins = OriginReader()
        self._recall = PersonCache()
        self._markers = AllMarkers()
        self._mapper = IdMapper(mappings_of, blocked_of)
        self._ids = ids
        self._gap_of = gap_of

    def process(self, batch: Batch, load: Load) -> BatchResult:
        decided = BatchResult()
        items, values = self._read(batch, decided)
        keys = dict.fromkeys(batch.keys)
        known = self._recall.load(batch.partition, keys, load)
        people = {_place(key): person for key, person in known.items()}
        versions = {place: person.version for place, person in people.items()}
        erasures = self._erasures(batch, keys, people, load)
        decisions = decide(items, people, erasures, self._ids)
        self._write_erasures(batch, items, versions, decided, load)
        self._write_events(items, values, decisions, decided)
        self._write_beside(decisions, decided)
        for place, person in people.items():
            if versions.get(place) != person.version and person.version:
                key, state = workspace_key(*place), encode_person(person)
                decided.changes[key] = state
                self._recall.keep(batch.partition, key, person, len(state))
        return decided

    def refuse(self, batch: Batch, reason: str, detail: str) -> BatchResult:
        decided = BatchResult()
        for index in range(len(batch)):
            self._refuse(decided, batch, index, reason, detail)
        return decided

    def refresh(self, partition: int, load: Load) -> BatchResult | None:
        return None

    def forget(self) -> None:
        self._recall.forget()
        self._markers.forget()

    def _erasures(
        self, batch: Batch, keys: Iterable[bytes], people: People, load: Load
    ) -> ErasedUntil:
        """Return the erasures in force at the batch's keys. Add the people who are new there to `people`.

        Their versions start above those of the erased people.
        """
        erasures = {}
        for key, until in self._markers.of(batch.partition, load).of(keys).items():
            place = _place(key)
            erasures[place] = until
            if place not in people:
                people[place] = Person.new(*place, versions_before=until, ids=self._ids)
        return erasures

    def _write_erasures(
        self,
        batch: Batch,
        items: list[Item],
        versions: dict[IdentifierKey, int],
        decided: BatchResult,
        load: Load,
    ) -> None:
        """Write the markers and delete each erased state. The state of a new person there overrides the deletion."""
        markers = self._markers.of(batch.partition, load)
        changed = len(markers) > 0 and markers.drop_outdated(batch.timestamps[-1])
        for item in items:
            if isinstance(item, Erase) and item.at in item.names:
                key = workspace_key(item.workspace, item.at)
                markers.set(key, item.until, item.kept_until)
                decided.forgotten.add(key)
                versions.pop((item.workspace, item.at), None)
                changed = True
        if changed:
            decided.changes[MARKERS_KEY] = markers.encode()

    def _read(self, batch: Batch, decided: BatchResult) -> tuple[list[Item], list[bytes]]:
        """Return (items, values to continue with) of the readable records; refuse the others."""
        items: list[Item] = []
        values: list[bytes] = []
        read = self._reader.read
        for index, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            try:
                item = read(key, value)
                if isinstance(item, IdentityEvent):
                    item.session_gap_seconds = self._gap_of(item.source)
                    if not item.wants_profile:
                        value = self._mapper.map_ids(item, value)
            except (avro.UnknownSchemaError, avro.UnreadableError, msgspec.DecodeError) as fault:
                self._refuse(decided, batch, index, reasons.UNREADABLE, str(fault))
                continue
            items.append(item)
            values.append(value)
        return items, values

    def _refuse(
        self, decided: BatchResult, batch: Batch, index: int, reason: str, detail: str
    ) -> None:
        key, value = batch.keys[index], batch.values[index]
        # dedup could read the origin of the event, and has counted the event under it
        origin = self._origins.read(value) or EventOrigin("", batch.timestamps[index], None)
        source, received_at, event_id = origin
        received_at = max(0, received_at)
        decided.refusals.append(RefusedRecord(index, reason, detail, source, received_at, event_id))
        known = [event_id] if event_id else []
        decided.usage.add(source, received_at, "dead", 1, len(value), id_checksum(known))
        event = self._reader.leading(key, value)
        if event is not None and event.wants_receipt:
            receipts = decided.outputs.setdefault(topics.RECEIPTS, [])
            receipts.append(encode_receipt(dead_receipt(event)))

    def _write_events(
        self, items: list[Item], values: list[bytes], decisions: Decisions, decided: BatchResult
    ) -> None:
        headers = self._resolved_headers
        resolved: list[Output] = []
        forwarded: list[Output] = []
        cells: dict[tuple[str, int, str], SizesAndIds] = {}
        for item, value, outcome in zip(items, values, decisions.outcomes, strict=True):
            if not isinstance(item, IdentityEvent):
                continue
            if isinstance(outcome, Resolved):
                header = headers[value[: avro.HEADER_BYTES]]
                resolved.append(_resolved(header, value, outcome, item))
                outcome_name = "resolved"
            elif isinstance(outcome, Unsaved):
                outcome_name = "unsaved"
            elif isinstance(outcome, Erased):
                outcome_name = "erased"
            elif isinstance(outcome, Reroute):
                forwarded.append(Output(workspace_key(item.workspace, outcome.at), value))
                continue
            else:
                continue
            place = (item.source, item.received_at // MINUTE_MS, outcome_name)
            cell = cells.get(place)
            if cell is None:
                cells[place] = ([len(value)], [item.event_id])
            else:
                cell[0].append(len(value))
                cell[1].append(item.event_id)
        for (source, minute, outcome_name), (sizes, ids) in cells.items():
            at, size = minute * MINUTE_MS, sum(sizes)
            decided.usage.add(source, at, outcome_name, len(sizes), size, id_checksum(ids))
        decided.outputs[topics.RESOLVED] = resolved
        decided.outputs[topics.UNIQUE] = forwarded
        decided.emitted = len(resolved)
        decided.forwarded = len(forwarded)
        decided.dropped = len(items) - len(resolved) - len(forwarded)

    def _write_beside(self, decisions: Decisions, decided: BatchResult) -> None:
        for link in decisions.links:
            record = msgspec.structs.asdict(link)
            record["identity_key"] = record.pop("at")
            output = Output(
                workspace_key(link.workspace, link.at),
                self._schemas["Link"].encode(record),
            )
            decided.outputs[topics.UNIQUE].append(output)
        if decisions.receipts:
            receipts = decided.outputs.setdefault(topics.RECEIPTS, [])
            receipts += map(encode_receipt, decisions.receipts)
        if decisions.merges:
            decided.beside[topics.PROFILES] = [self._merge_output(m) for m in decisions.merges]

    def _merge_output(self, merge: Merge) -> Output:
        parts = (merge.workspace, "merge", merge.from_profile, merge.into_profile)
        record = msgspec.structs.asdict(merge)
        return Output(SEPARATOR.join(parts).encode(), self._schemas["Merge"].encode(record))


def _resolved(header: bytes, value: bytes, outcome: Resolved, event: IdentityEvent) -> Output:
    """Append profile and session to the accepted event's bytes, and replace the header by the resolved schema's."""
    profile, session = outcome.profile_id.encode(), outcome.session_id.encode()
    longer = (
        header,
        value[avro.HEADER_BYTES :],
        avro.string_length(profile),
        profile,
        avro.string_length(session),
        session,
        _long(event.session_gap_seconds),
    )
    return Output(profile or session or event.event_id, b"".join(longer))


def _place(key: bytes) -> tuple[str, str]:
    workspace, _, identity = key.decode().partition(SEPARATOR)
    return workspace, identity
