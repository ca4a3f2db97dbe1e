"""Identity erases a person from state and changelog, drops older events and treats later ones as new."""

import msgspec

from tests.support.events import NOON, accepted, batch_of
from tests.unit.identity.test_stage import unique
from weir.adapters import avro
from weir.core import topics
from weir.core.batch import Batch, BatchResult, Output, State
from weir.core.identifiers import content_digest, workspace_key
from weir.identity.erasure_markers import MARKERS_KEY, Markers
from weir.identity.messages import Erase
from weir.identity.stage import IdentityStage
from weir.runtime.changelog import KeyedChangelog
from weir.sink.step import Routes

ADA = b"acme\0u:ada"
DAY = 86_400_000


def erase(*names: str, at: str = "", until: int = NOON, kept_until: int = NOON + DAY) -> Output:
    erasing = Erase(at or names[0], "acme", list(names), until, kept_until)
    record = msgspec.structs.asdict(erasing)
    record["identity_key"] = record.pop("at")
    return Output(workspace_key("acme", erasing.at), avro.schemas()["Erase"].encode(record))


class Worker:
    """A stage on a state that is as the commits before left it."""

    def __init__(self) -> None:
        self.stage = IdentityStage()
        self.state: State = {}

    def process(self, *outputs: Output, now: int = NOON) -> BatchResult:
        batch = batch_of(list(outputs), topics.UNIQUE)
        batch = Batch(batch.topic, 0, batch.offsets, [now] * len(outputs), batch.keys, batch.values)
        decided = self.stage.process(batch, self._load)
        decided.check(len(outputs), IdentityStage.writes)
        for key, value in decided.state_changes().items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        return decided

    def _load(self, keys: object) -> State:
        return {key: self.state[key] for key in keys if key in self.state}  # type: ignore[attr-defined]


def outcomes(decided: BatchResult) -> list[str]:
    return sorted(outcome for _, _, outcome in decided.usage.counts)


def ada(number: int, received_at: int = NOON) -> Output:
    return unique(accepted(number, user_id="ada", received_at=received_at))


def test_erasing_deletes_the_state_and_writes_a_tombstone_to_the_changelog() -> None:
    worker = Worker()
    worker.process(ada(1))
    decided = worker.process(erase("u:ada"))
    assert worker.state.keys() == {MARKERS_KEY}
    log = KeyedChangelog(topics.PROFILES, avro.is_one_of("Profile"))
    assert Output(ADA, b"") in log.encode(decided.state_changes())
    assert log.decode(ADA, None) == {ADA: None}


def test_an_erase_marker_holds_a_digest_and_not_the_identifier() -> None:
    worker = Worker()
    worker.process(erase("u:ada"))
    assert b"ada" not in worker.state[MARKERS_KEY]
    assert content_digest(ADA) in worker.state[MARKERS_KEY]


def test_events_received_before_the_erasure_are_dropped_also_after_a_restart() -> None:
    worker = Worker()
    first = worker.process(erase("u:ada"), ada(1), ada(2))
    assert outcomes(first) == ["erased"]
    assert [count.events for count in first.usage.counts.values()] == [2]
    worker.stage = IdentityStage()
    again = worker.process(ada(3))
    assert (outcomes(again), again.outputs[topics.RESOLVED]) == (["erased"], [])
    assert worker.state.keys() == {MARKERS_KEY}


def test_a_link_from_before_the_erasure_is_dropped() -> None:
    worker = Worker()
    login = Worker().process(unique(accepted(1, user_id="ada", anonymous_id="x")))
    (link,) = login.outputs[topics.UNIQUE]
    worker.process(erase("a:x", "u:ada"))
    decided = worker.process(link)
    assert decided.dropped == 1
    assert worker.state.keys() == {MARKERS_KEY}


def test_events_after_the_erasure_start_a_new_profile_with_a_higher_version() -> None:
    worker = Worker()
    for number in range(5):
        worker.process(ada(number))
    before = avro.decode_any(worker.state[ADA])[1]
    worker.process(erase("u:ada"))
    for number in (6, 7):
        decided = worker.process(ada(number, NOON + 1))
        assert outcomes(decided) == ["resolved"]
    after = avro.decode_any(worker.state[ADA])[1]
    assert (after["events"], before["events"]) == (2, 5)
    assert after["version"] == NOON + 2 > before["version"]


def test_an_erasure_within_a_batch_drops_only_the_events_before_it() -> None:
    worker = Worker()
    decided = worker.process(ada(1), erase("u:ada"), ada(2, NOON + 1))
    assert outcomes(decided) == ["resolved"]
    after = avro.decode_any(worker.state[ADA])[1]
    assert (after["events"], after["version"]) == (1, NOON + 1)


def test_other_people_lose_their_links_to_the_erased_person() -> None:
    worker = Worker()
    worker.process(unique(accepted(1, user_id="bob", anonymous_id="x")))
    assert b"a:x" in worker.state[b"acme\0u:bob"]
    worker.process(erase("a:x", "u:ada", at="u:bob"))
    assert b"a:x" not in worker.state[b"acme\0u:bob"]
    assert avro.decode_any(worker.state[b"acme\0u:bob"])[1]["events"] == 1


def test_erase_markers_are_removed_after_their_kept_until() -> None:
    worker = Worker()
    worker.process(erase("u:ada"))
    worker.process(erase("u:eve", kept_until=NOON + 2 * DAY))
    worker.process(ada(1, NOON + DAY), now=NOON + DAY + 1)
    markers = Markers(worker.state[MARKERS_KEY])
    assert markers.of([ADA, b"acme\0u:eve"]) == {b"acme\0u:eve": NOON}


def test_a_failed_transaction_leaves_no_erase_marker() -> None:
    worker = Worker()
    batch = batch_of([erase("u:ada")], topics.UNIQUE)
    worker.stage.process(batch, lambda keys: {})  # its commit fails: nothing is applied
    worker.stage.forget()
    assert outcomes(worker.process(ada(1))) == ["resolved"]


def test_the_sink_routes_erase_markers_to_landing_erased_markers() -> None:
    names = {header: schema.name for header, schema in avro.schemas_by_header().items()}
    worker = Worker()
    worker.process(erase("u:ada"))
    table = Routes(names.get).table(worker.state[MARKERS_KEY][:10])
    assert table == "landing_erased_markers"
