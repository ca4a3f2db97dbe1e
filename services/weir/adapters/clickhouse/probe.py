"""Whether an ordinary row goes into a table now, and whether rows of an insert are in it already."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from weir.adapters import avro
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.errors import NotReachedError, RefusedError
from weir.runtime.sink_ports import Examination, Insert, RowsRefusedError, WarehouseAwayError
from weir.settings.shared import ClickHouseSettings

# ClickHouse remembers the tokens of 10,000 inserts: for at least this long, at 16 inserts a second.
REMEMBERED_SECONDS = 600.0
EVENTS = (
    "landing_events"  # the only table in which a row that goes in again does not replace itself
)
# A row of our own is received in 1900, so that its partition holds no other row, and is dropped again.
NOBODY_RECEIVED_AT = int(datetime(1900, 1, 2, tzinfo=UTC).timestamp() * 1_000)
NOBODYS_PARTITION = 190001


class Probe:
    """Examines inserts that fail: see `services/weir/sink/suspicion.py`. From any thread.

    The ordinary row is the first of the latest insert that went in, under the token of that insert:
    ClickHouse does all that it does for a row, and drops it at the end. Where no insert is known yet, a
    row of our own goes into `events`, in a partition of its own, which is dropped at once.
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
        rows_in, ordinary_in = True, False
        with suppress(RowsRefusedError, WarehouseAwayError, NotReachedError, RefusedError):
            rows_in = self._rows_in(insert)
            ordinary_in = not rows_in and self._ordinary_in(insert.table)
        return Examination(ordinary_in, rows_in)

    def _ordinary_in(self, table: str) -> bool:
        at, latest = self._latest.get(table, (0.0, None))
        if latest is not None and self._clock() - at < REMEMBERED_SECONDS:
            self._insert(latest)
            return True
        if table != EVENTS:
            return False  # until the next one has gone in
        clickhouse = ClickHouse(self._settings)
        drop = f"ALTER TABLE {self._named('events')} DROP PARTITION {NOBODYS_PARTITION}"
        clickhouse.ask(drop)  # whoever may not remove the row does not write it
        try:
            clickhouse.ask(
                f"INSERT INTO {self._named(table)} (received_at, properties, context)"
                f" SETTINGS async_insert = 0 VALUES ({NOBODY_RECEIVED_AT}, '{{}}', '{{}}')"
            )
        finally:
            clickhouse.ask(drop)
        return True

    def _rows_in(self, insert: Insert) -> bool:
        if insert.table != EVENTS:
            return False
        # an insert is one block, so of each month all of its rows are in or none
        one_a_month: dict[str, uuid.UUID] = {}
        for value in insert.values:
            try:
                event = self._events.read(value)
            except (avro.UnknownSchemaError, avro.UnreadableError):
                continue  # never went in
            month = month_of(event["received_at"])
            one_a_month.setdefault(month, uuid.UUID(bytes=event["event_id"]))
        ids = ", ".join(f"toUUID('{event_id}')" for event_id in one_a_month.values())
        sql = f"SELECT count() AS found FROM {self._named('events')} WHERE event_id IN ({ids})"
        return bool(ids) and int(ClickHouse(self._settings).records(sql)[0]["found"]) > 0

    def _named(self, table: str) -> str:
        return f"`{self._settings.clickhouse_database}`.{table}"


def month_of(milliseconds: int) -> str:
    """As the table `events` is partitioned; times that are in no calendar each by themselves."""
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1_000, UTC):%Y%m}"
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
