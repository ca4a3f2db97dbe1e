"""Dedup's decision, on plain values."""

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


def test_first_occurrence_is_unique_and_its_repeats_name_it() -> None:
    outcomes, remembered = decide([arrival("k", 1), arrival("k", 2), arrival("l", 3)], {})
    assert outcomes[0] is UNIQUE
    assert outcomes[2] is UNIQUE
    assert isinstance(outcomes[1], Repeat)
    assert outcomes[1].first.event_id == (1).to_bytes(16)
    assert {b"k", b"l"} < set(remembered)


def test_a_repeat_of_an_earlier_batch_is_found_in_its_state() -> None:
    _, state = decide([arrival("k", 1)], {})
    outcomes, changes = decide([arrival("k", 2)], state)
    assert isinstance(outcomes[0], Repeat)
    assert b"k" not in changes


def test_the_window_ends_after_its_last_millisecond() -> None:
    _, state = decide([arrival("k", 1, at=0)], {})
    inside, _ = decide([arrival("k", 2, at=WINDOW * 1000)], state)
    outside, renewed = decide([arrival("k", 3, at=WINDOW * 1000 + 1)], state)
    assert isinstance(inside[0], Repeat)
    assert outside == [UNIQUE]
    assert unpack_first(renewed[b"k"]).event_id == (3).to_bytes(16)


def test_a_repeat_received_by_a_slower_clock_is_a_repeat() -> None:
    _, state = decide([arrival("k", 1, at=5_000)], {})
    outcomes, _ = decide([arrival("k", 2, at=1_000)], state)
    assert isinstance(outcomes[0], Repeat)


def test_it_says_whether_the_payload_was_the_same() -> None:
    first, same, other = arrival("k", 1), arrival("k", 2), arrival("k", 3, payload=b"q")
    outcomes, _ = decide([first, same, other], {})
    assert isinstance(outcomes[1], Repeat)
    assert isinstance(outcomes[2], Repeat)
    assert outcomes[1].same_payload(same)
    assert not outcomes[2].same_payload(other)


def test_an_event_read_again_is_no_duplicate_of_itself() -> None:
    _, state = decide([arrival("k", 1)], {})
    assert decide([arrival("k", 1)], state) == ([REREAD], {})


def test_a_repeat_read_again_is_reread_in_the_same_batch_and_in_a_later_one() -> None:
    first, repeat = arrival("k", 1), arrival("k", 2)
    outcomes, state = decide([first, repeat, repeat], {})
    assert outcomes[0] is UNIQUE
    assert isinstance(outcomes[1], Repeat)
    assert outcomes[2] is REREAD
    assert decide([repeat, first, repeat], state) == ([REREAD] * 3, {})


def test_each_of_many_repeats_of_one_key_is_remembered() -> None:
    """A client that repeats one key for hours: the copy of any of its events may come."""
    arrivals = [arrival("k", number) for number in range(500)]
    _, state = decide(arrivals, {})
    assert decide(arrivals, state) == ([REREAD] * 500, {})


def test_what_the_window_has_made_old_is_reread_all_the_same() -> None:
    old, repeat, new = arrival("k", 1), arrival("k", 2), arrival("k", 3, at=WINDOW * 1000 + 1)
    outcomes, state = decide([old, repeat, new], {})
    assert outcomes[2] is UNIQUE
    assert decide([old, repeat, new], state) == ([REREAD] * 3, {})


def test_every_entry_says_when_its_event_was_received() -> None:
    _, state = decide([arrival("k", 1, at=5), arrival("k", 2, at=7)], {})
    assert sorted(int.from_bytes(value[-TIME_BYTES:]) for value in state.values()) == [5, 7]
