"""People as the last batches left them, so that those who come again are not read and decoded again."""

from collections import OrderedDict
from collections.abc import Iterable

from weir.core.batch import Load
from weir.identity.person import Person
from weir.identity.snapshot import decode_person

PEOPLE_KEPT = 10_000
# Larger ones (mostly traits) are read from the store each time, so that what is kept has a known bound.
MAX_BYTES = 2_048


class PersonCache:
    """Says of a partition's keys what its store says once the batches before are committed.

    The people it gives are changed in place by the decisions on a batch, before that batch is
    committed. That is safe because the worker decides on no other batch of the partition until the
    commit is through; when it fails, or partitions come or go, the worker calls `forget()` before it
    decides on anything else (`Step.forget`). A batch that raises midway leaves none of its people
    here: `load` takes them out, and they are kept again only when all is decided. Kept apart by
    partition, as the stores are: a key is only ever its own store's.
    """

    def __init__(self, kept: int = PEOPLE_KEPT) -> None:
        self._kept = kept
        self._people: OrderedDict[tuple[int, bytes], Person] = OrderedDict()  # least recent first

    def load(self, partition: int, keys: Iterable[bytes], load: Load) -> dict[bytes, Person]:
        """Those of the keys that are known, as the caller's to change; whoever is to be recalled must be kept."""
        people: dict[bytes, Person] = {}
        unknown: list[bytes] = []
        for key in keys:
            person = self._people.pop((partition, key), None)
            if person is None:
                unknown.append(key)
            else:
                people[key] = person
        for key, value in load(unknown).items():
            people[key] = decode_person(value)
        return people

    def keep(self, partition: int, key: bytes, person: Person, size: int) -> None:
        """`size`: how many bytes the person is in the store."""
        if size > MAX_BYTES:
            return
        self._people[partition, key] = person
        if len(self._people) > self._kept:
            self._people.popitem(last=False)

    def forget(self) -> None:
        self._people.clear()
