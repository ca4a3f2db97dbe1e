"""A rebuild from accepted events finds exactly the lost rows, each with the person it had."""

import uuid
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import NOON, accepted, accepted_output, batch_of
from tests.support.profiles import examples
from weir.adapters import avro
from weir.adapters.memory import MemoryStore
from weir.backfill.accepted import AcceptedEvents
from weir.backfill.present import EventKey
from weir.backfill.rebuild import EventRange, RebuildCounts
from weir.backfill.redecide import NOWHERE, DedupReplay, IdentityReplay
from weir.backfill.scratch import fill
from weir.backfill.settled_reader import Chunk
from weir.core import topics
from weir.core.batch import Output, Step
from weir.core.identifiers import minted_profile_id
from weir.core.registry import IdMapping
from weir.dedup.stage import DedupStage
from weir.identity.erasure_markers import MARKERS_KEY, Markers
from weir.identity.messages import Erase
from weir.identity.stage import IdentityStage
from weir.runtime.sink_ports import Columns, PartitionId

PLACE = PartitionId(topics.ACCEPTED, 0)
SIZE = 4
ALL = EventRange(0)
HOUR = 3_600_000
MAPPINGS = (IdMapping(event="paid", user_id="buyer"),)


def id_of(value: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=value[avro.HEADER_BYTES : avro.HEADER_BYTES + 16])


def mappings_of(_source: str) -> tuple[IdMapping, ...]:
    return MAPPINGS


class Live:
    """The workers as they run, record by record, and what they leave in ClickHouse."""

    def __init__(self) -> None:
        self.people = MemoryStore()
        self.rows: dict[uuid.UUID, dict[str, Any]] = {}
        self.duplicates: set[uuid.UUID] = set()
        self.dead_ids: set[uuid.UUID] = set()
        self.same: dict[str, str] = {}  # a profile, and the one it was merged into
        self._seen = MemoryStore()
        self._dedup = DedupStage()
        self._identity = IdentityStage(mappings_of)

    def accept(self, output: Output) -> None:
        decided = self._run(self._dedup, self._seen, [output])
        self.duplicates |= {id_of(o.value) for o in decided[topics.DUPLICATE]}
        self.resolve(decided[topics.UNIQUE])

    def resolve(self, outputs: list[Output]) -> None:
        while outputs:
            decided = self._run(self._identity, self.people, outputs)
            for _, value in decided[topics.RESOLVED]:
                self.rows[id_of(value)] = avro.read_whole(value)
            for _, value in decided.get(topics.PROFILES, []):
                merge = avro.read_whole(value)
                if not merge["refused"]:
                    self.same[merge["from_profile"]] = merge["into_profile"]
            outputs = decided[topics.UNIQUE]

    def person(self, profile: str) -> str:
        while profile in self.same:
            profile = self.same[profile]
        return profile

    def _run(
        self, step: Step, store: MemoryStore, outputs: list[Output]
    ) -> dict[str, list[Output]]:
        decided = step.process(batch_of(outputs), store.load)
        store.apply(decided.state_changes(), NOWHERE)
        return {**decided.outputs, **decided.beside}

    # --- what is asked of ClickHouse

    def present(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        return {event.event_id for event in events} & self.rows.keys()

    def repeats(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        return {event.event_id for event in events} & self.duplicates

    def dead(self, place: PartitionId, events: Mapping[int, EventKey]) -> set[int]:
        return {at for at, event in events.items() if event.event_id in self.dead_ids}


def chunks(outputs: list[Output], first: int) -> Iterator[Chunk]:
    """Of a topic that has lost what was before `first`."""
    for start in range(first - first % SIZE, len(outputs), SIZE):
        offsets = [at for at in range(start, start + SIZE) if first <= at < len(outputs)]
        keys, values = [outputs[at].key for at in offsets], [outputs[at].value for at in offsets]
        yield Chunk(start, start + SIZE, Columns(offsets, [*values], keys, [NOON] * len(offsets)))


def find(
    live: Live, outputs: list[Output], first: int = 0, part: EventRange = ALL
) -> tuple[dict[uuid.UUID, dict[str, Any]], RebuildCounts]:
    """What is to be put back, by event id."""
    people = MemoryStore()
    people.apply(live.people._entries, NOWHERE)
    resolving = IdentityReplay(IdentityStage(mappings_of), lambda: people)
    events = AcceptedEvents(PLACE, live, live.present, DedupReplay(MemoryStore()), resolving)
    account = RebuildCounts()
    found = {}
    for chunk in chunks(outputs, first):
        missing = events.missing(chunk, part, account)
        assert set(missing.records.offsets) <= set(chunk.records.offsets)
        for at, value in zip(missing.records.offsets, missing.records.values, strict=True):
            assert value is not None
            assert id_of(value) == id_of(outputs[at].value)
            found[id_of(value)] = avro.read_whole(value)
    return found, account


sent: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    key=st.integers(0, 7),
    hour=st.integers(0, 40),
    user_id=st.sampled_from(["", "", "ada", "bob"]),
    anonymous_id=st.sampled_from(["", "phone", "laptop"]),
    client_profile_id=st.sampled_from(["", "", "", "p1"]),
    saved=st.sampled_from([True, True, True, False]),
    mapped=st.booleans(),
)


def outputs_of(events: list[dict[str, Any]]) -> list[Output]:
    outputs = []
    for number, fields in enumerate(events):
        key, hour, mapped = fields.pop("key"), fields.pop("hour"), fields.pop("mapped")
        if mapped:  # a webhook
            named = {"event": "paid", "wants_profile": False, "properties": '{"buyer": "ada"}'}
            fields = {**named, "saved": fields["saved"]}
        at = NOON + hour * HOUR
        record = accepted(
            number, idempotency_key=f"k{key}", received_at=at, occurred_at=at, **fields
        )
        outputs.append(accepted_output(record))
    return outputs


@examples(200)
@given(
    events=st.lists(sent, max_size=24),
    lost=st.sets(st.integers(0, 23)),
    first=st.integers(0, 23),
)
def test_a_rebuild_from_accepted_finds_exactly_the_lost_rows_with_their_people(
    events: list[dict[str, Any]], lost: set[int], first: int
) -> None:
    outputs = outputs_of([dict(event) for event in sorted(events, key=lambda e: e["hour"])])
    first = min(first, len(outputs))
    live = Live()
    for output in outputs:
        live.accept(output)
    ids = [id_of(output.value) for output in outputs]
    gone = {
        ids[at]: live.rows.pop(ids[at]) for at in lost if at < len(ids) and ids[at] in live.rows
    }
    found, account = find(live, outputs, first)
    assert found.keys() == gone.keys() & set(ids[first:])
    assert account.there == len(live.rows.keys() & set(ids[first:]))
    for event_id, row in found.items():
        before = {**gone[event_id], "profile_id": "", "session_id": ""}
        assert {**row, "profile_id": "", "session_id": ""} == before
        assert live.person(row["profile_id"]) == live.person(gone[event_id]["profile_id"])
        assert bool(row["session_id"]) == bool(gone[event_id]["session_id"])


@pytest.fixture
def live() -> Live:
    return Live()


def test_an_event_after_the_dedup_window_is_restored_when_the_first_is_expired(live: Live) -> None:
    """The second event is a duplicate of the expired first; the third is a duplicate of neither."""
    hours = (0, 20, 30)
    outputs = [
        accepted_output(accepted(n, idempotency_key="k", received_at=NOON + hour * HOUR))
        for n, hour in enumerate(hours)
    ]
    for output in outputs:
        live.accept(output)
    third = id_of(outputs[2].value)
    assert live.rows.pop(third)
    assert find(live, outputs, first=1)[0].keys() == {third}


def test_dead_and_unsaved_events_are_not_restored(live: Live) -> None:
    outputs = [accepted_output(accepted(n, user_id="ada", saved=n != 2)) for n in range(4)]
    live.dead_ids = {id_of(outputs[1].value)}
    found, account = find(live, [*outputs, Output(b"shop\0" + bytes(16), b"no event")])
    assert found.keys() == {id_of(outputs[0].value), id_of(outputs[3].value)}
    assert (account.there, account.barred, account.unsaved, account.refused) == (0, 1, 1, 0)


def test_an_event_that_identity_cannot_read_is_counted_as_refused(live: Live) -> None:
    wrong = accepted_output(accepted(1, user_id="ada", event="$identify", properties="[]"))
    found, account = find(live, [wrong])
    assert (found, account.refused) == ({}, 1)


def test_a_range_restores_its_own_events_without_duplicates_of_earlier_ones(live: Live) -> None:
    outputs = [
        accepted_output(
            accepted(n, idempotency_key=f"k{n % 4}", received_at=NOON + n, source="shop")
        )
        for n in range(6)
    ]
    found, _ = find(live, outputs, part=EventRange(NOON + 2, NOON + 5, "shop"))
    assert found.keys() == {id_of(outputs[at].value) for at in (2, 3)}
    assert find(live, outputs, part=EventRange(0, None, "blog"))[0] == {}


def test_restored_events_of_one_visit_share_one_session(live: Live) -> None:
    outputs = [
        accepted_output(accepted(n, user_id="ada", occurred_at=NOON + n * 60_000)) for n in range(9)
    ]
    found, _ = find(live, outputs)
    assert len({row["session_id"] for row in found.values()}) == 1
    for output in outputs:
        live.accept(output)
    live.rows.clear()
    again, _ = find(live, outputs)
    assert {row["session_id"] for row in again.values()} == {
        row["session_id"] for row in found.values()
    }


def test_a_rebuild_changes_no_identity_state(live: Live) -> None:
    """A device keeps its profile even after a login that identity never saw."""
    login = accepted(1, user_id="ada", anonymous_id="phone")
    alone = [accepted(n, anonymous_id="phone") for n in range(2, 2 + SIZE)]
    found, _ = find(live, [accepted_output(record) for record in (login, *alone)])
    whose = {row["profile_id"] for row in found.values() if not row["user_id"]}
    assert whose == {minted_profile_id("acme", "a:phone")}
    assert live.people._entries == {}


def test_events_from_before_an_erasure_are_not_restored(live: Live) -> None:
    """This holds even when a new person is known by the same identifier."""
    before = accepted_output(accepted(1, anonymous_id="phone", received_at=NOON))
    after = accepted_output(accepted(2, anonymous_id="phone", received_at=NOON + HOUR))
    erase = Erase("a:phone", "acme", ["a:phone"], NOON + 1, NOON + 1_000 * HOUR)
    fields = {name: getattr(erase, name) for name in Erase.__struct_fields__ if name != "at"}
    value = avro.schemas()["Erase"].encode({**fields, "identity_key": erase.at})
    live.resolve([Output(b"acme\0a:phone", value)])
    live.accept(after)
    live.rows.clear()
    found, account = find(live, [before, after])
    assert found.keys() == {id_of(after.value)}
    assert account.barred == 1


def test_scratch_state_merges_people_and_erasure_markers_of_all_partitions(live: Live) -> None:
    keys = (b"acme\0a:phone", b"acme\0a:laptop", b"acme\0a:watch")
    markers = []
    for number, key in enumerate(keys[:2]):
        partial = Markers()
        partial.set(key, NOON + number, NOON + HOUR)
        markers.append((number, MARKERS_KEY, partial.encode()))
    live.accept(accepted_output(accepted(1, anonymous_id="watch")))
    (state,) = live.people._entries.items()
    merge = avro.schemas()["Merge"].encode(
        {
            "workspace": "acme",
            "from_profile": "a",
            "into_profile": "b",
            "refused": False,
            "detail": "",
            "merged_at": NOON,
            "event_id": bytes(16),
        }
    )
    store = MemoryStore()
    person = [(2, *state), (2, b"acme\0a:gone", state[1]), (2, b"acme\0a:gone", None)]
    fill(store, [*person, *markers, (1, b"m", merge)])
    held = store.load([MARKERS_KEY])[MARKERS_KEY]
    assert Markers(held).of(keys) == {keys[0]: NOON, keys[1]: NOON + 1}
    assert store.load([keys[2], b"acme\0a:gone", b"m"]) == dict([state])
