"""Check whether a table accepts an ordinary row now, and whether it already has rows of an insert."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from weir.adapters import avro
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.errors import RefusedError, UnavailableError
from weir.runtime.sink_ports import Examination, Insert, RowsRefusedError, WarehouseAwayError
from weir.settings.shared import ClickHouseSettings

# ClickHouse remembers the tokens of 10,000 inserts: at 16 inserts a second, for at least this time.
REMEMBERED_SECONDS = 600.0
# The only table in which a row that is inserted again does not replace the earlier one.
EVENTS = "landing_events"
# Weir's test row has a receipt time in 1900, so that no other row is in its partition, which is then dropped.
NOBODY_RECEIVED_AT = int(datetime(1900, 1, 2, tzinfo=UTC).timestamp() * 1_000)
NOBODYS_PARTITION = 190001


class Probe:
    """Examines inserts that fail: see `services/weir/sink/suspicion.py`. Thread-safe.

    The ordinary row is the first row of the table's latest successful insert, with the token of that insert:
    ClickHouse processes it like any row and drops it at the end. If no recent insert into `landing_events` is
    known, a test row is written to `events`, to a partition of its own, which is dropped at once. For other tables
    whose latest insert is not known, a record of zeros and empty texts is written to an empty copy of the table.
    """

    def __init__(
        self,
        insert: Callable[[Insert], None],
        settings: ClickHouseSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._insert = insert
        self._settings = settings
        self._clock = clock
        self._latest: dict[str, tuple[float, Insert]] = {}
        self._events = avro.PrefixReader("Resolved", "received_at")

    def went_in(self, insert: Insert) -> None:
        one = insert._replace(values=insert.values[:1])
        self._latest[insert.table] = (self._clock(), one)

    def examine(self, insert: Insert) -> Examination:
        rows_in, ordinary_in, form_taken = True, False, False
        with suppress(RowsRefusedError, WarehouseAwayError, UnavailableError, RefusedError):
            rows_in = self._rows_in(insert)
            if not rows_in:
                if (latest := self._latest_in(insert.table)) is not None:
                    self._insert(latest)
                    ordinary_in = True
                elif insert.table == EVENTS:
                    self._write_test_row()
                    ordinary_in = True
                else:
                    self._write_to_copy(insert)
                    form_taken = True
        return Examination(ordinary_in, rows_in, form_taken)

    def _latest_in(self, table: str) -> Insert | None:
        """Return the first row of the table's latest insert, if ClickHouse still remembers its token."""
        at, latest = self._latest.get(table, (0.0, None))
        return latest if self._clock() - at < REMEMBERED_SECONDS else None

    def _write_to_copy(self, insert: Insert) -> None:
        """Write an ordinary record of the insert's schema to an empty copy of its table, which is dropped."""
        copy = f"probe_{uuid.uuid4().hex}"
        clickhouse = ClickHouse(self._settings)
        clickhouse.ask(
            f"CREATE TABLE {self._named(copy)} AS {self._named(insert.table)} ENGINE = Memory"
        )
        try:
            value = avro.ordinary(avro.schemas_by_header()[insert.header])
            self._insert(Insert(copy, insert.header, [value], copy))
        finally:
            clickhouse.ask(f"DROP TABLE IF EXISTS {self._named(copy)}")

    def _write_test_row(self) -> None:
        """Write a row to `events`, to a partition of its own, which is dropped."""
        clickhouse = ClickHouse(self._settings)
        drop = f"ALTER TABLE {self._named('events')} DROP PARTITION {NOBODYS_PARTITION}"
        clickhouse.ask(drop)  # first, so that a user who may not drop the row does not write it
        try:
            clickhouse.ask(
                f"INSERT INTO {self._named(EVENTS)} (received_at, properties, context)"
                f" SETTINGS async_insert = 0 VALUES ({NOBODY_RECEIVED_AT}, '{{}}', '{{}}')"
            )
        finally:
            clickhouse.ask(drop)

    def _rows_in(self, insert: Insert) -> bool:
        if insert.table != EVENTS:
            return False
        # an insert is one block, so either all or none of its rows of each month are in the table
        one_a_month: dict[str, uuid.UUID] = {}
        for value in insert.values:
            try:
                event = self._events.read(value)
            except (avro.UnknownSchemaError, avro.UnreadableError):
                continue  # cannot have been inserted
            month = month_of(event["received_at"])
            one_a_month.setdefault(month, uuid.UUID(bytes=event["event_id"]))
        ids = ", ".join(f"toUUID('{event_id}')" for event_id in one_a_month.values())
        sql = f"SELECT count() AS found FROM {self._named('events')} WHERE event_id IN ({ids})"
        return bool(ids) and int(ClickHouse(self._settings).records(sql)[0]["found"]) > 0

    def _named(self, table: str) -> str:
        return f"`{self._settings.clickhouse_database}`.{table}"


def month_of(milliseconds: int) -> str:
    """Return the month, by which the table `events` is partitioned; for times outside the calendar, the time."""
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1_000, UTC):%Y%m}"
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
