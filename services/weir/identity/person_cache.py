"""Cache of people as the last batches left them, so that returning people are not read and decoded again."""

from collections import OrderedDict
from collections.abc import Iterable

from weir.core.batch import Load
from weir.identity.person import Person
from weir.identity.snapshot import decode_person

PEOPLE_KEPT = 10_000
# Larger people (mostly traits) are read from the store each time, so that the cache has a known size limit.
MAX_BYTES = 2_048


class PersonCache:
    """People by partition and key, as the partition's store holds them once earlier batches are committed.

    The decisions on a batch change the cached people in place, before the batch is committed. That is safe
    because the worker decides on no other batch of the partition until the commit has succeeded. If the commit
    fails, or partitions are assigned or revoked, the worker calls `forget()` before it decides on anything else
    (`Step.forget`). A batch that raises midway leaves none of its people in the cache: `load` removes them, and
    `keep` puts them back only when the whole batch is decided. The cache is separated by partition, as the stores
    are: a key belongs to one store only.
    """

    def __init__(self, kept: int = PEOPLE_KEPT) -> None:
        self._kept = kept
        self._people: OrderedDict[tuple[int, bytes], Person] = OrderedDict()  # least recent first

    def load(self, partition: int, keys: Iterable[bytes], load: Load) -> dict[bytes, Person]:
        """Return the known people by key. The caller may change them, and must `keep` any that should stay."""
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
        """Cache a person. `size`: the person's size in the store, in bytes."""
        if size > MAX_BYTES:
            return
        self._people[partition, key] = person
        if len(self._people) > self._kept:
            self._people.popitem(last=False)

    def forget(self) -> None:
        self._people.clear()
