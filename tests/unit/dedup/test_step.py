"""Dedup decides from keys, ids and times whether an event is unique, a duplicate or reread."""

from collections.abc import Iterable, Sequence

from weir.core.batch import State
from weir.dedup.step import (
    REREAD,
    TIME_BYTES,
    UNIQUE,
    DedupOutcome,
    Repeat,
    RoutingFields,
    unpack_first,
)
from weir.dedup.step import decide as decide_with

WINDOW = 3600


def arrival(key: str, number: int, at: int = 0, payload: bytes = b"p") -> RoutingFields:
    return RoutingFields(key.encode(), number.to_bytes(16) + payload.ljust(16), at, "shop", WINDOW)


def decide(arrivals: Sequence[RoutingFields], state: State) -> tuple[list[DedupOutcome], State]:
    def load(keys: Iterable[bytes]) -> State:
        return {key: state[key] for key in keys if key in state}

    return decide_with(arrivals, load)


def test_the_first_occurrence_is_unique_and_its_duplicates_name_it() -> None:
    outcomes, remembered = decide([arrival("k", 1), arrival("k", 2), arrival("l", 3)], {})
    assert outcomes[0] is UNIQUE
    assert outcomes[2] is UNIQUE
    assert isinstance(outcomes[1], Repeat)
    assert outcomes[1].first.event_id == (1).to_bytes(16)
    assert {b"k", b"l"} < set(remembered)


def test_a_duplicate_of_an_event_of_an_earlier_batch_is_found() -> None:
    _, state = decide([arrival("k", 1)], {})
    outcomes, changes = decide([arrival("k", 2)], state)
    assert isinstance(outcomes[0], Repeat)
    assert b"k" not in changes


def test_the_dedup_window_includes_its_last_millisecond() -> None:
    _, state = decide([arrival("k", 1, at=0)], {})
    inside, _ = decide([arrival("k", 2, at=WINDOW * 1000)], state)
    outside, renewed = decide([arrival("k", 3, at=WINDOW * 1000 + 1)], state)
    assert isinstance(inside[0], Repeat)
    assert outside == [UNIQUE]
    assert unpack_first(renewed[b"k"]).event_id == (3).to_bytes(16)


def test_a_duplicate_with_an_earlier_received_at_is_a_duplicate() -> None:
    _, state = decide([arrival("k", 1, at=5_000)], {})
    outcomes, _ = decide([arrival("k", 2, at=1_000)], state)
    assert isinstance(outcomes[0], Repeat)


def test_a_duplicate_states_whether_its_payload_is_the_same() -> None:
    first, same, other = arrival("k", 1), arrival("k", 2), arrival("k", 3, payload=b"q")
    outcomes, _ = decide([first, same, other], {})
    assert isinstance(outcomes[1], Repeat)
    assert isinstance(outcomes[2], Repeat)
    assert outcomes[1].same_payload(same)
    assert not outcomes[2].same_payload(other)


def test_an_event_read_again_is_not_a_duplicate_of_itself() -> None:
    _, state = decide([arrival("k", 1)], {})
    assert decide([arrival("k", 1)], state) == ([REREAD], {})


def test_a_duplicate_read_again_is_reread_in_the_same_and_in_a_later_batch() -> None:
    first, repeat = arrival("k", 1), arrival("k", 2)
    outcomes, state = decide([first, repeat, repeat], {})
    assert outcomes[0] is UNIQUE
    assert isinstance(outcomes[1], Repeat)
    assert outcomes[2] is REREAD
    assert decide([repeat, first, repeat], state) == ([REREAD] * 3, {})


def test_every_one_of_500_duplicates_of_a_key_is_recognised_as_reread() -> None:
    """A client may repeat one key for hours, and any of its events may be read again."""
    arrivals = [arrival("k", number) for number in range(500)]
    _, state = decide(arrivals, {})
    assert decide(arrivals, state) == ([REREAD] * 500, {})


def test_an_event_outside_the_dedup_window_is_still_recognised_as_reread() -> None:
    old, repeat, new = arrival("k", 1), arrival("k", 2), arrival("k", 3, at=WINDOW * 1000 + 1)
    outcomes, state = decide([old, repeat, new], {})
    assert outcomes[2] is UNIQUE
    assert decide([old, repeat, new], state) == ([REREAD] * 3, {})


def test_every_state_entry_ends_with_the_received_at_of_its_event() -> None:
    _, state = decide([arrival("k", 1, at=5), arrival("k", 2, at=7)], {})
    assert sorted(int.from_bytes(value[-TIME_BYTES:]) for value in state.values()) == [5, 7]
