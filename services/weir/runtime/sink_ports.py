"""What the sink's loop needs of the outside, as Protocols. `weir.adapters` has the real ones and memory twins."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Columns(NamedTuple):
    """Records of one partition in order, as columns (a column is cheaper to make than objects)."""

    offsets: list[int]
    values: list[bytes | None]
    keys: list[bytes]
    timestamps: list[int]


class Slice(NamedTuple):
    """What was read of one partition: all its records before `position`, since the last slice."""

    place: Place
    records: Columns
    position: int


class Gain(NamedTuple):
    """A partition that is ours from now on, and where the group had come with it."""

    place: Place
    topic_id: str
    offset: int | None  # None: nothing was ever committed
    metadata: str


class Polled(NamedTuple):
    """Partitions lost and gained, in that order, and then what was read."""

    lost: set[Place]
    gained: list[Gain]
    slices: list[Slice]


class Commit(NamedTuple):
    """The group's next offset of a partition, with what is to be known about it."""

    place: Place
    offset: int
    metadata: str


class Insert(NamedTuple):
    """Rows of one schema for one table. ClickHouse drops an insert whose token it has seen."""

    table: str
    header: bytes
    values: Sequence[bytes]
    token: str


class DeadRecord(NamedTuple):
    """A record that cannot go in, with why."""

    place: Place
    offset: int
    key: bytes
    value: bytes
    timestamp: int
    reason: str
    detail: str


class CommitFailedError(Exception):
    """The broker did not take the commit, or is not known to have: try again, nothing has changed."""


class DeadLettersFailedError(Exception):
    """The broker did not take the dead letters: try again."""


class RowsRefusedError(Exception):
    """The rows themselves are at fault; none of them went in."""


class WarehouseAwayError(Exception):
    """ClickHouse does not answer or cannot take rows now; whether these went in is not known.

    `code`: what repeats if the fault does. `answered`: this attempt has ended, and is not under way any
    more. `of_server`: the whole server is short of something, which no row alone can be to blame for.
    """

    def __init__(
        self, detail: str, code: str = "", *, answered: bool = False, of_server: bool = False
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.answered = answered
        self.of_server = of_server


class Examination(NamedTuple):
    """What an examination of an insert that fails has found."""

    ordinary_in: bool  # an ordinary row goes into the same table now
    rows_in: bool  # some of the insert's rows are in the table, or that cannot be told


class Finished(NamedTuple):
    """What an insert came to; no fault: its rows are in."""

    place: Place
    insert: Insert
    fault: RowsRefusedError | WarehouseAwayError | None


class Examined(NamedTuple):
    """What an examination came to."""

    place: Place
    insert: Insert
    finding: Examination


class Buried(NamedTuple):
    """What writing dead letters came to; no fault: they are durable, `cut` of them without their content."""

    place: Place
    records: Sequence[DeadRecord]
    cut: int
    fault: DeadLettersFailedError | None


class Records(Protocol):
    """The topics, as one member of the sink's consumer group."""

    trouble: str  # why nothing can be read just now, and what to do; empty: it can

    def poll(self, seconds: float, gather: bool) -> Polled:
        """What changed within `seconds`; returns early at the first record, unless to `gather`."""

    def commit(self, commits: Sequence[Commit]) -> None:
        """Durable on return, or `CommitFailedError`."""

    def hold(self, places: Collection[Place]) -> None:
        """Read nothing of exactly these from now on. The membership of the group is kept."""

    def lag(self) -> Mapping[Place, int]:
        """Records between each partition's position and its end, as last heard."""

    def close(self) -> None: ...


class LetterWriter(Protocol):
    def write(self, records: Sequence[DeadRecord]) -> int:
        """Durable on return, or `DeadLettersFailedError`; returns how many are stored without their content."""


class DeadLetters(Protocol):
    """Dead letters under way: a broker that does not answer keeps nobody's rows waiting."""

    def start(self, place: Place, records: Sequence[DeadRecord]) -> None: ...

    def finished(self) -> list[Buried]:
        """Those that ended since the last call."""


class Warehouse(Protocol):
    def insert(self, insert: Insert) -> None:
        """All rows are queryable on return. `RowsRefusedError`: none is. `WarehouseAwayError`: unknown."""

    def examine(self, insert: Insert) -> Examination:
        """Of an insert that fails: does an ordinary row go into its table, and are any of its rows in?"""


class Inserts(Protocol):
    """Inserts under way, several at once."""

    @property
    def free(self) -> int:
        """How many more may begin, of which one would wait for a thread."""

    def abandon(self, place: Place) -> None:
        """Begin nothing more of what waits for this partition: it is somebody else's now."""

    def start(self, place: Place, insert: Insert) -> None: ...

    def finished(self) -> list[Finished]:
        """Those that ended since the last call."""

    def examine(self, place: Place, insert: Insert) -> None: ...

    def examined(self) -> list[Examined]:
        """The examinations that ended since the last call."""
