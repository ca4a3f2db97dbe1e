"""Whose fault is an insert that fails: that of its rows, or ClickHouse's? Pure: time is told.

A fault that repeats unchanged is taken for the rows' own if an ordinary row goes into the same table at
that time. Then the insert is narrowed, and a row that still fails alone is given up. Otherwise it is
ClickHouse's fault (read-only, too many parts, no room, no memory), and nobody's rows are given up.

Rows are never narrowed while an earlier attempt at them may still be under way, or where some of them
are in: what goes in under another token goes in again.
"""

from dataclasses import dataclass
from enum import Enum, auto

from weir.runtime.sink_ports import Examination, RowsRefusedError, WarehouseAwayError

REPEATS = 3  # of the same fault, until it is looked for whose it is
# How often a row fails alone, each time while an ordinary one goes in. More than once: ClickHouse may
# have been mended between the row's attempt and the ordinary one's.
CONFIRMATIONS = 3
REFUSALS = 2  # the same for a row that ClickHouse refuses


class Next(Enum):
    RETRY = auto()  # the same insert, after a pause
    EXAMINE = auto()  # ask the warehouse
    CONFIRM = auto()  # the same insert, at once
    WAIT = auto()  # until an earlier attempt has ended for certain, then examine
    BLAME = auto()  # the rows: narrow the insert, or give up its only row


@dataclass
class Suspicion:
    """What the latest inserts of one partition came to."""

    ended_by: float  # earlier attempts have ended then, whoever made them
    unanswered: bool = False  # an attempt at the present range may have gone in without an answer
    code: str = ""
    repeats: int = 0
    confirmations: int = 0
    blamed: bool = False  # the range is being narrowed: its faults are no news
    _fault: RowsRefusedError | WarehouseAwayError | None = None

    @property
    def detail(self) -> str:
        return str(self._fault)

    def failed(
        self, fault: RowsRefusedError | WarehouseAwayError, rows: int, ended_by: float
    ) -> Next:
        """`ended_by`: when an attempt that is under way now has ended."""
        self._fault = fault
        if isinstance(fault, RowsRefusedError):
            # the rows were looked at before anything was written: so they are not in, unless an earlier
            # attempt has gone in unanswered and ClickHouse has changed its mind since
            return Next.BLAME if rows > 1 and not self.unanswered else Next.EXAMINE
        self.repeats = self.repeats + 1 if fault.code == self.code else 1
        self.code = fault.code
        if not fault.answered:
            self.unanswered = True
            self.ended_by = max(self.ended_by, ended_by)
        return Next.EXAMINE if self.repeats >= REPEATS or self.blamed else Next.RETRY

    def examined(self, finding: Examination, rows: int, asked_at: float) -> Next:
        """`asked_at`: when the examination began; what went in since it may not have seen."""
        fault = self._fault
        if isinstance(fault, RowsRefusedError) and self.unanswered and asked_at < self.ended_by:
            return Next.WAIT
        if isinstance(fault, RowsRefusedError) and rows > 1 and not finding.rows_in:
            return Next.BLAME
        if fault is None or not finding.ordinary_in or finding.rows_in:
            self.confirmations = 0
            return Next.RETRY
        if isinstance(fault, RowsRefusedError):
            self.confirmations += 1
            return Next.BLAME if self.confirmations >= REFUSALS else Next.CONFIRM
        if asked_at < self.ended_by:
            # an attempt that is answered ends at once; another one would only put it off
            return Next.RETRY if fault.answered else Next.WAIT
        if rows > 1:
            self.blamed = True
            return Next.BLAME
        if fault.of_server:
            return Next.RETRY
        self.confirmations += 1
        return Next.BLAME if self.confirmations >= CONFIRMATIONS else Next.RETRY

    def went_in(self) -> None:
        self.code, self.repeats, self.confirmations = "", 0, 0

    def range_done(self) -> None:
        self.went_in()
        self.blamed = self.unanswered = False
