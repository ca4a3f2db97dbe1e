"""Decide whether a failing insert is the fault of its rows or of ClickHouse. Pure: the time is an argument.

If the same error repeats, or an insert fails again and again with several errors, and an ordinary row can be inserted
into the same table at that time, the rows are at fault. Then the insert is narrowed, and a row that still fails alone
is given up. Otherwise ClickHouse is at fault (read-only, too many parts, no disk space, no memory), and no rows are
given up. A row that ClickHouse refuses is also proven guilty by an ordinary record that goes into a table with the
same columns: so one bad record never blocks a table into which nothing else is written.

Rows are never narrowed while an earlier attempt at them may still be running, or if some of them are already in
the table: a narrowed insert has another token, so ClickHouse would not drop the rows that it already has.
"""

from dataclasses import dataclass
from enum import Enum, auto

from weir.runtime.sink_ports import Examination, RowsRefusedError, WarehouseAwayError

REPEATS = 3  # of the same error, before the insert is examined
FAILURES = 6  # of the same insert, whatever the errors, before it is examined
# How often a row must fail alone while an ordinary row can be inserted, before it is given up. More than once:
# ClickHouse may have recovered between the row's attempt and the ordinary row's.
CONFIRMATIONS = 3
REFUSALS = 2  # the same, for a row that ClickHouse refuses


class Next(Enum):
    RETRY = auto()  # the same insert, after a pause
    EXAMINE = auto()  # examine the insert in ClickHouse
    CONFIRM = auto()  # the same insert, at once
    WAIT = auto()  # until all earlier attempts have certainly ended, then examine
    BLAME = auto()  # blame the rows: narrow the insert, or give up its only row


@dataclass
class Suspicion:
    """The results of the latest inserts of one partition."""

    ended_by: float  # when all earlier attempts, also of previous owners, have ended
    unanswered: bool = False  # an attempt at the current range may have succeeded without an answer
    code: str = ""
    repeats: int = 0
    failures: int = 0
    confirmations: int = 0
    blamed: bool = False  # the range is being narrowed: examine each error at once
    _fault: RowsRefusedError | WarehouseAwayError | None = None

    @property
    def detail(self) -> str:
        return str(self._fault)

    def failed(
        self, fault: RowsRefusedError | WarehouseAwayError, rows: int, ended_by: float
    ) -> Next:
        """Decide what follows a failed insert. `ended_by`: when an attempt that runs now will have ended."""
        self._fault = fault
        if isinstance(fault, RowsRefusedError):
            # ClickHouse checks the rows before it writes any, so none are in the table; unless an earlier
            # attempt succeeded without an answer, and ClickHouse refuses now what it accepted then
            return Next.BLAME if rows > 1 and not self.unanswered else Next.EXAMINE
        if not fault.sent:
            return Next.RETRY  # this tells nothing about the rows
        self.repeats = self.repeats + 1 if fault.code == self.code else 1
        self.failures += 1
        self.code = fault.code
        if not fault.answered:
            self.unanswered = True
            self.ended_by = max(self.ended_by, ended_by)
        is_repeated = self.repeats >= REPEATS or self.failures >= FAILURES
        return Next.EXAMINE if is_repeated or self.blamed else Next.RETRY

    def examined(self, finding: Examination, rows: int, asked_at: float) -> Next:
        """Decide what follows an examination. `asked_at`: when it began; it may miss rows inserted since then."""
        fault = self._fault
        if isinstance(fault, RowsRefusedError) and self.unanswered and asked_at < self.ended_by:
            return Next.WAIT
        if isinstance(fault, RowsRefusedError) and rows > 1 and not finding.rows_in:
            return Next.BLAME
        is_refused = isinstance(fault, RowsRefusedError)
        proven = finding.ordinary_in or (is_refused and finding.form_taken)
        if fault is None or not proven or finding.rows_in:
            self.confirmations = 0
            return Next.RETRY
        if isinstance(fault, RowsRefusedError):
            self.confirmations += 1
            return Next.BLAME if self.confirmations >= REFUSALS else Next.CONFIRM
        if asked_at < self.ended_by:
            if fault.answered:
                return Next.RETRY
            # Once more first: ClickHouse may have recovered between the last attempt and the ordinary row's.
            # Then wait, since each unanswered attempt moves `ended_by` further.
            self.confirmations += 1
            return Next.CONFIRM if self.confirmations == 1 else Next.WAIT
        if rows > 1:
            self.blamed = True
            return Next.BLAME
        if fault.of_server:
            return Next.RETRY
        self.confirmations += 1
        return Next.BLAME if self.confirmations >= CONFIRMATIONS else Next.RETRY

    def went_in(self) -> None:
        self.code, self.repeats, self.failures, self.confirmations = "", 0, 0, 0

    def range_done(self) -> None:
        self.went_in()
        self.blamed = self.unanswered = False
