"""Find the record that causes a fault by attempting fewer records at once (docs/decisions/0015-faults.md). Pure."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from weir.core.batch import Batch

SHRINK = 100  # from 10,000 records to one in two steps, because each step costs a recovery
UNCHANGED = 2  # failed attempts from the same offsets before fewer records are attempted


def halves(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Split the batches of one transaction into two halves, in order. They must have more than one record."""
    if len(batches) > 1:
        middle = len(batches) // 2
        return [list(batches[:middle]), list(batches[middle:])]
    (batch,) = batches
    middle = len(batch) // 2
    return [[batch.part(0, middle)], [batch.part(middle, len(batch))]]


def narrowed(batch: Batch, attempt: Callable[[Batch], bool]) -> Iterator[Batch]:
    """Yield, in order, the records for which `attempt` fails even alone, each as a batch.

    `attempt` is called for consecutive parts of the batch in order, and returns whether it succeeded. A
    part that fails is split in halves, which are attempted again.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        if attempt(part):
            continue
        if len(part) == 1:
            yield part
        else:
            waiting += [half for (half,) in reversed(halves([part]))]


class Suspects:
    """Records whose transactions fail repeatedly, although each attempt uses new clients.

    The brokers may be at fault, so no record becomes a dead letter. Fewer records are attempted at once,
    which helps if a transaction is more than the brokers can process within its timeout.
    """

    def __init__(self) -> None:
        self._starts: dict[int, int] = {}  # by partition, where the last failed attempt began
        self._failures = 0  # consecutive failed attempts that began there
        self._most = 0  # records to attempt at once; 0: all
        self._ends: dict[int, int] = {}  # by partition, the end of the suspected range

    def parts(self, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
        """Yield the batches of one transaction after another, in offset order within each partition."""
        suspected = [batch for batch in batches if self._count(batch)]
        if others := [batch for batch in batches if not self._count(batch)]:
            yield others
        for batch in suspected:
            count, size = self._count(batch), self._most
            for first in range(0, count, size):
                yield [batch.part(first, min(first + size, count))]
            if count < len(batch):
                yield [batch.part(count, len(batch))]

    def failed(self, part: Sequence[Batch]) -> None:
        """Note that an attempt has failed for a reason that may be temporary."""
        starts = {batch.partition: batch.offsets[0] for batch in part}
        again = any(self._starts.get(partition) == at for partition, at in starts.items())
        self._failures = self._failures + 1 if again else 1
        self._starts = starts
        if self._failures >= UNCHANGED:
            self._most = max(1, sum(map(len, part)) // SHRINK)
            self._ends |= {batch.partition: batch.position for batch in part}

    def passed(self, part: Sequence[Batch]) -> None:
        """Note that an attempt has succeeded; records after it stay suspected."""
        self._failures = 0
        for batch in part:
            if batch.position >= self._ends.get(batch.partition, batch.position):
                self._ends.pop(batch.partition, None)

    def _count(self, batch: Batch) -> int:
        """Return how many records at the start of the batch are suspected."""
        return bisect_left(batch.offsets, self._ends.get(batch.partition, 0))
