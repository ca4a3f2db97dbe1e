"""Find the record that a fault belongs to: attempt less and less at once (docs/decisions/0015-faults.md). Pure."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from weir.core.batch import Batch

SHRINK = 100  # 10,000 records come down to one in two steps: each costs a recovery
UNCHANGED = 2  # attempts that fail with the same records, until less is attempted


def halves(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Split what was attempted in one transaction into two, in order. More than one record."""
    if len(batches) > 1:
        middle = len(batches) // 2
        return [list(batches[:middle]), list(batches[middle:])]
    (batch,) = batches
    middle = len(batch) // 2
    return [[batch.part(0, middle)], [batch.part(middle, len(batch))]]


def narrowed(batch: Batch, attempt: Callable[[Batch], bool]) -> Iterator[Batch]:
    """Yield, in order, the records for which `attempt` fails alone.

    `attempt` is called for consecutive parts of the batch, each after all that came before it, and
    returns whether it has succeeded; what fails is attempted again in halves.
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
    """Records whose transactions fail again and again, though each attempt begins with new clients.

    The fault may be the brokers', so nothing dies by it: less is attempted at once, which helps
    where a transaction is more than the brokers can do in its time.
    """

    def __init__(self) -> None:
        self._starts: dict[int, int] = {}  # by partition, where the last failed attempt began
        self._failures = 0  # of attempts in a row that began there
        self._most = 0  # records to attempt at once; 0: all
        self._ends: dict[int, int] = {}  # by partition, the end of the range that is suspected

    def parts(self, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
        """Yield what to attempt in one transaction each, in the order of each partition."""
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
        """An attempt has failed for a reason that may pass."""
        starts = {batch.partition: batch.offsets[0] for batch in part}
        again = any(self._starts.get(partition) == at for partition, at in starts.items())
        self._failures = self._failures + 1 if again else 1
        self._starts = starts
        if self._failures >= UNCHANGED:
            self._most = max(1, sum(map(len, part)) // SHRINK)
            self._ends |= {batch.partition: batch.position for batch in part}

    def passed(self, part: Sequence[Batch]) -> None:
        """An attempt has succeeded; what was suspected behind it still is."""
        self._failures = 0
        for batch in part:
            if batch.position >= self._ends.get(batch.partition, batch.position):
                self._ends.pop(batch.partition, None)

    def _count(self, batch: Batch) -> int:
        """Return how many of the batch's first records are suspected."""
        return bisect_left(batch.offsets, self._ends.get(batch.partition, 0))
