"""Ports of the sink's loop, as Protocols. `weir.adapters` implements them on Kafka and ClickHouse, and in memory."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol


class PartitionId(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Columns(NamedTuple):
    """Records of one partition as columns, as in `core.batch.Batch`; here a value may be null (a tombstone)."""

    offsets: list[int]
    values: list[bytes | None]
    keys: list[bytes]
    timestamps: list[int]


class Slice(NamedTuple):
    """What was read from one partition: all its records since the last slice and before `position`."""

    place: PartitionId
    records: Columns
    position: int


class Gain(NamedTuple):
    """A newly assigned partition, and the group's committed position in it."""

    place: PartitionId
    topic_id: str
    offset: int | None  # None: nothing was ever committed
    metadata: str


class Polled(NamedTuple):
    """Partitions that were first lost, then gained, and what was read after that."""

    lost: set[PartitionId]
    gained: list[Gain]
    slices: list[Slice]


class Commit(NamedTuple):
    """The group's next offset in a partition, with its metadata."""

    place: PartitionId
    offset: int
    metadata: str


class Insert(NamedTuple):
    """Rows of one schema for one table. ClickHouse ignores an insert whose token it has already seen."""

    table: str
    header: bytes
    values: Sequence[bytes]
    token: str


class DeadRecord(NamedTuple):
    """A record that cannot be inserted, with the reason."""

    place: PartitionId
    offset: int
    key: bytes
    value: bytes
    timestamp: int
    reason: str
    detail: str


class CommitFailedError(Exception):
    """The broker did not take the commit, or that is unknown. Try again; nothing else has changed."""


class DeadLettersFailedError(Exception):
    """The broker did not take the dead letters: try again."""


class RowsRefusedError(Exception):
    """The rows themselves are invalid; none of them was inserted."""


class WarehouseAwayError(Exception):
    """ClickHouse does not answer or cannot take rows now; whether these rows were inserted is unknown.

    `code`: ClickHouse's error code, the same if the fault repeats. `answered`: the attempt has ended and is
    not running any more. `sent`: False if there was no connection, so ClickHouse has seen none of the rows.
    `of_server`: the whole server lacks a resource, for which no row can be to blame.
    """

    def __init__(
        self,
        detail: str,
        code: str = "",
        *,
        sent: bool = True,
        answered: bool = False,
        of_server: bool = False,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.sent = sent
        self.answered = answered
        self.of_server = of_server


class Examination(NamedTuple):
    """The findings about an insert that fails."""

    ordinary_in: bool  # an ordinary row can be inserted into the same table now
    rows_in: bool  # some of the insert's rows are in the table, or that is unknown
    # an ordinary record of the same schema goes into a table with the same columns now: then the form of a row
    # that is refused is at fault, even if no ordinary row of its table is known
    form_taken: bool = False


class Finished(NamedTuple):
    """The result of an insert; without a fault, its rows are in ClickHouse."""

    place: PartitionId
    insert: Insert
    fault: RowsRefusedError | WarehouseAwayError | None


class Examined(NamedTuple):
    """The result of an examination."""

    place: PartitionId
    insert: Insert
    finding: Examination


class WrittenLetters(NamedTuple):
    """The result of writing dead letters; without a fault they are durable, `cut` of them without their content."""

    place: PartitionId
    records: Sequence[DeadRecord]
    cut: int
    fault: DeadLettersFailedError | None


class Records(Protocol):
    """The topics, as one member of the sink's consumer group."""

    @property
    def trouble(self) -> str:
        """Return why nothing can be read now, and what to do; empty: reading works."""

    def poll(self, seconds: float, gather: bool) -> Polled:
        """Return what changed within `seconds`. Unless `gather` is set, return at the first record."""

    def commit(self, commits: Sequence[Commit]) -> None:
        """Commit; durable on return. `CommitFailedError` otherwise."""

    def hold(self, places: Collection[PartitionId]) -> None:
        """Stop reading exactly these partitions from now on. The group membership is kept."""

    def lag(self) -> Mapping[PartitionId, int]:
        """Return the number of records between each partition's position and its last known end."""

    def close(self) -> None: ...


class LetterWriter(Protocol):
    def write(self, records: Sequence[DeadRecord]) -> int:
        """Write dead letters durably, or `DeadLettersFailedError`; return how many are stored without content."""


class DeadLetters(Protocol):
    """Dead letters, written in the background: a broker that does not answer delays no rows."""

    def start(self, place: PartitionId, records: Sequence[DeadRecord]) -> None: ...

    def finished(self) -> list[WrittenLetters]:
        """Return the writes that ended since the last call."""


class Warehouse(Protocol):
    def insert(self, insert: Insert) -> None:
        """Insert all rows; queryable on return. `RowsRefusedError`: none is in. `WarehouseAwayError`: unknown."""

    def examine(self, insert: Insert) -> Examination:
        """Examine a failing insert: can an ordinary row be inserted, and are any of its rows in the table?"""


class Inserts(Protocol):
    """Inserts in the background, several at once."""

    @property
    def free(self) -> int:
        """How many more inserts may be started; at most one of them waits for a thread."""

    def abandon(self, place: PartitionId) -> None:
        """Cancel the inserts of this partition that have not begun: another member owns the partition now."""

    def start(self, place: PartitionId, insert: Insert) -> None: ...

    def finished(self) -> list[Finished]:
        """Return the inserts that ended since the last call."""

    def examine(self, place: PartitionId, insert: Insert) -> None: ...

    def examined(self) -> list[Examined]:
        """Return the examinations that ended since the last call."""
