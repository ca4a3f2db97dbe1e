"""Dedup's decision, on plain values."""

from services.dedup.step import REREAD, UNIQUE, Arrival, Repeat, decide, unpack_first

WINDOW = 3600


def arrival(key: str, number: int, at: int = 0, payload: bytes = b"p") -> Arrival:
    return Arrival(key.encode(), number.to_bytes(16) + payload.ljust(16), at, "shop", WINDOW)


def test_first_occurrence_is_unique_and_its_repeats_name_it() -> None:
    outcomes, remembered = decide([arrival("k", 1), arrival("k", 2), arrival("l", 3)], {})
    assert outcomes[0] is UNIQUE
    assert outcomes[2] is UNIQUE
    assert isinstance(outcomes[1], Repeat)
    assert outcomes[1].first.event_id == (1).to_bytes(16)
    assert set(remembered) == {b"k", b"l"}


def test_a_repeat_of_an_earlier_batch_is_found_in_its_state() -> None:
    _, state = decide([arrival("k", 1)], {})
    outcomes, changes = decide([arrival("k", 2)], state)
    assert isinstance(outcomes[0], Repeat)
    assert changes == {}


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
