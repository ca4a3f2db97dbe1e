"""Narrowing finds exactly the faulty records of a batch and settles all others in order."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import batch_of
from weir.core.batch import Batch, Output
from weir.runtime.narrowing import SHRINK, Suspects, halves, narrowed

FAULTY = st.integers(1, 60).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1)))
)


def batch(size: int, partition: int = 0, first: int = 0) -> Batch:
    made = batch_of([Output(b"k", b"v")] * size, partition=partition)
    made.offsets[:] = range(first, first + size)
    return made


@given(FAULTY)
def test_each_faulty_record_is_found_and_the_others_pass_in_order(
    case: tuple[int, set[int]],
) -> None:
    size, faulty = case
    settled: list[int] = []

    def attempt(part: Batch) -> bool:
        if faulty & set(part.offsets):
            return False
        settled.extend(part.offsets)
        return True

    found = []
    for record in narrowed(batch(size), attempt):
        found += record.offsets
        settled += record.offsets
    assert found == sorted(faulty)
    assert settled == list(range(size))


def test_a_batch_without_a_fault_is_attempted_once() -> None:
    attempts: list[int] = []

    def attempt(part: Batch) -> bool:
        attempts.append(len(part))
        return True

    assert not list(narrowed(batch(1_000), attempt))
    assert attempts == [1_000]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_halves_keep_every_record_in_order(sizes: list[int]) -> None:
    batches = [batch(size, partition) for partition, size in enumerate(sizes)]
    if sum(sizes) == 1:
        return
    first, second = halves(batches)
    assert first
    assert second
    offsets: dict[int, list[int]] = {}
    for part in (*first, *second):
        offsets.setdefault(part.partition, []).extend(part.offsets)
    assert offsets == {at.partition: at.offsets for at in batches}


def parts(suspects: Suspects, *batches: Batch) -> list[list[int]]:
    return [[at.offsets[0] for at in part] for part in suspects.parts(batches)]


def test_a_single_failure_does_not_split_the_next_batch() -> None:
    suspects = Suspects()
    suspects.failed([batch(1_000)])
    assert parts(suspects, batch(1_000)) == [[0]]


def test_a_second_failure_at_the_same_offset_splits_the_next_batch() -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.failed([batch(500)])
    assert parts(suspects, batch(500), batch(3, 1)) == [
        [0],
        *([at] for at in range(0, 500, 500 // SHRINK)),
    ]


def test_repeated_failures_split_10_000_records_to_single_records_in_two_steps() -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.failed([batch(10_000)])
    suspects.failed([batch(100)])
    (part,) = next(iter(suspects.parts([batch(10_000)])))
    assert len(part) == 1


def test_records_that_have_passed_are_no_longer_split() -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.failed([batch(100)])
    for part in suspects.parts([batch(100)]):
        suspects.passed(part)
    assert parts(suspects, batch(1_000, first=100)) == [[100]]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 300))
def test_parts_hold_every_record_once_in_order(failed: int, size: int, first: int) -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.failed([batch(failed)])
    offsets = [
        at for part in suspects.parts([batch(size, first=first)]) for b in part for at in b.offsets
    ]
    assert offsets == list(range(first, first + size))
