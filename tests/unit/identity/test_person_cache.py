"""The person cache always agrees with the store and is dropped after a failed transaction."""

from collections.abc import Iterable

from tests.support.events import accepted, batch_of
from tests.unit.identity.test_stage import unique
from weir.adapters import avro
from weir.core.batch import Batch, State
from weir.identity.erasure_markers import MARKERS_KEY
from weir.identity.person import Person
from weir.identity.person_cache import MAX_BYTES, PersonCache
from weir.identity.snapshot import encode_person
from weir.identity.stage import IdentityStage

KEY = b"acme\0u:7"


class Kept:
    """A partition's store; tells which keys it was asked for."""

    def __init__(self) -> None:
        self.state: State = {}
        self.asked: list[bytes] = []

    def load(self, keys: Iterable[bytes]) -> State:
        wanted = list(keys)
        self.asked += wanted
        return {key: self.state[key] for key in wanted if key in self.state}


def visit(number: int, partition: int = 0, user: str = "7") -> Batch:
    return batch_of([unique(accepted(number, user_id=user))], "events.unique", partition)


def events_of(state: State) -> int:
    events: int = avro.decode_any(state[KEY])[1]["events"]
    return events


def test_a_returning_person_is_loaded_from_the_store_only_once() -> None:
    stage, store = IdentityStage(), Kept()
    for number in range(3):
        store.state.update(stage.process(visit(number), store.load).changes)
    assert store.asked == [KEY, MARKERS_KEY]  # each once
    assert events_of(store.state) == 3


def test_forget_drops_uncommitted_changes() -> None:
    stage, store = IdentityStage(), Kept()
    store.state.update(stage.process(visit(1), store.load).changes)
    stage.process(visit(2), store.load)  # its transaction fails: nothing is applied
    stage.forget()
    again = stage.process(visit(2), store.load)
    assert events_of(again.changes) == 2


def test_each_partition_has_its_own_cached_people() -> None:
    stage, here, there = IdentityStage(), Kept(), Kept()
    stage.process(visit(1, partition=0), here.load)
    assert events_of(stage.process(visit(2, partition=1), there.load).changes) == 1


def test_the_least_recently_used_person_is_evicted_first() -> None:
    recall, store = PersonCache(kept=2), Kept()
    for name in (b"a", b"b", b"a", b"c"):
        recall.load(0, [name], store.load)
        recall.keep(0, name, Person("acme", "u:" + name.decode(), "p"), 100)
    store.asked.clear()
    recall.load(0, [b"a", b"b", b"c"], store.load)
    assert store.asked == [b"b"]


def test_a_person_above_the_size_limit_is_never_cached() -> None:
    recall, store = PersonCache(), Kept()
    person = Person("acme", "u:7", "p", traits="x" * MAX_BYTES)
    store.state[KEY] = encode_person(person)
    recall.keep(0, KEY, person, len(store.state[KEY]))
    assert recall.load(0, [KEY], store.load) == {KEY: person}
    assert store.asked == [KEY]
