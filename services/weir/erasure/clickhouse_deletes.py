"""Find, count and delete a person's rows in ClickHouse, so that no file holds them any more."""

from collections.abc import Iterator, Mapping, Sequence

from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.clickhouse.sql_literals import text, time_literal
from weir.erasure.conditions import SESSION, chosen_of, conditions, visited
from weir.erasure.model import ErasedPerson, ErasedRows
from weir.erasure.person_rows import UNLOGGED, PersonRows

# In the order of deletion: `events` is last because duplicates and segments are found by their events.
TABLES = (
    *("duplicates", "session_segments", "profile_parts", "merges", "conflicts"),
    *("rejected", "dead", "events"),
)
# The tables whose erased rows are recorded for the books.
COUNTED = ("events", "duplicates", "rejected", "dead")
# The statement returns when every replica has rewritten the parts. A lightweight `DELETE` would only
# mask the rows and leave them in the files.
SYNCHRONOUS = f"{UNLOGGED}, mutations_sync = 2, allow_nondeterministic_mutations = 1"
VALUES_AN_INSERT = 1_000
# Named as in the view `testimonies`: the sink's dead letters from topics other than events.resolved are in no
# stage's account of events.
GIVEN_UP_BY = "if(step = 'sink' AND origin_topic != 'events.resolved', concat('sink_of_', origin_topic), step)"


class PersonDeletes:
    """The deletion of one person at a time: call `begin`, then any other method, then `end`. Safe to begin again.

    `ClickHouseUnreachableError`, `ClickHouseRefusedError`.
    """

    def __init__(self, clickhouse: ClickHouse, database: str, cluster: str = "") -> None:
        self._clickhouse = clickhouse
        self._rows = PersonRows(clickhouse, database)
        self._database = database
        self._cluster = cluster

    def begin(self, person: ErasedPerson, until: int, workspaces: Mapping[str, str]) -> list[str]:
        """Choose the person's rows that were received by `until` (epoch milliseconds).

        Return the ids of the rows that name the person in no field: rejected events, dead letters,
        duplicates. `workspaces`: the workspace of each declared source.
        """
        self._conditions = conditions(person.workspace, until, self._database, self._chosen)
        self._shared = (
            f"workspace = {text(person.workspace)} AND received_at <= {time_literal(until)}"
            f" AND anonymous_id IN {self._chosen('anonymous')}"
        )
        found = chosen_of(person, self._rows, self._database, until, workspaces)
        self.end()
        for kind, values in found.items():
            self._choose(kind, values)
        duplicates = self._rows.records(
            f"SELECT toString(event_id) AS id FROM {self._database}.duplicates"
            f" WHERE {self._conditions['duplicates']} ORDER BY id"
        )
        return found["refusal"] + found["letter"] + [row["id"] for row in duplicates]

    def end(self) -> None:
        """Empty the table `erasing`, which names the person."""
        self._execute(f"TRUNCATE TABLE {on(self._database, 'erasing', self._cluster)} {UNLOGGED}")

    def count(self) -> tuple[dict[str, int], list[ErasedRows]]:
        """Return the number of rows by table, and the rows of COUNTED by the keys that the books count by."""
        counts = [rows for table in COUNTED for rows in self._counts(table)]
        return {table: self._number(table, self._conditions[table]) for table in TABLES}, counts

    def recorded(self, erasure_id: str) -> int:
        """Return how many counts of an erasure the books have."""
        sql = f"SELECT count() AS number FROM {self._database}.erased_rows FINAL"
        return int(
            self._rows.records(f"{sql} WHERE erasure_id = toUUID({text(erasure_id)})")[0]["number"]
        )

    def delete(self) -> Iterator[str]:
        """Delete the rows, table by table. Yield the name of each step before it begins.

        The rows are gone once the iterator is exhausted.
        """
        for table in TABLES:
            yield table
            if self._number(table, self._conditions[table]):
                self._alter(table, f"DELETE WHERE {self._conditions[table]}")
            if table == "session_segments":
                yield "visits that go on"
                self._keep_later_visits()
        # Other people's rows that were sent from a device of the person stay, without the device's id.
        yield "what others share"
        segments = visited(self._shared, self._database)
        if self._number("session_segments", segments):
            kept = f"arrayFilter(id -> NOT has({self._array('anonymous')}, id), anonymous_ids)"
            self._alter("session_segments", f"UPDATE anonymous_ids = {kept} WHERE {segments}")
        if self._number("events", self._shared):
            self._alter("events", f"UPDATE anonymous_id = '' WHERE {self._shared}")

    def remaining(self) -> dict[str, int]:
        """Return the number of rows left to delete, of the tables that still have any."""
        left = {table: self._number(table, self._conditions[table]) for table in TABLES}
        return {table: rows for table, rows in left.items() if rows}

    def _keep_later_visits(self) -> None:
        """Rewrite the segments of sessions that keep later events.

        A client that chooses its own session id may continue the session. The new segment aggregates
        the remaining events, less the number that arrived since the deletion, which segments already
        count. Minima, maxima and sets can take an event twice.
        """
        events = f"{self._database}.events"
        theirs = self._conditions["events"]
        sessions = visited(theirs, self._database)
        self._execute(
            f"INSERT INTO {self._database}.session_segments"
            f" ({SESSION}, session_given, started_at, ended_at, events, entry_event, exit_event,"
            f" user_ids, anonymous_ids) {UNLOGGED}, insert_deduplicate = 0"
            f" SELECT {SESSION}, session_given, min(occurred_at), max(occurred_at),"
            " greatest(toInt64(uniqExact(event_id)) - toInt64(any(present.number)), 0),"
            " argMinState(toString(event), (occurred_at, event_id)),"
            " argMaxState(toString(event), (occurred_at, event_id)),"
            " groupUniqArrayIf(user_id, user_id != ''),"
            " groupUniqArrayIf(anonymous_id, anonymous_id != '')"
            f" FROM (SELECT * FROM {events} WHERE {sessions} AND NOT ({theirs})) AS later"
            f" LEFT ANY JOIN (SELECT {SESSION}, session_given, sum(events) AS number"
            f" FROM {self._database}.session_segments WHERE {sessions}"
            f" GROUP BY {SESSION}, session_given) AS present USING ({SESSION}, session_given)"
            f" GROUP BY {SESSION}, session_given"
        )

    def _chosen(self, kind: str) -> str:
        return f"(SELECT value FROM {self._database}.erasing WHERE kind = '{kind}')"

    def _array(self, kind: str) -> str:
        return f"(SELECT groupArray(value) FROM {self._database}.erasing WHERE kind = '{kind}')"

    def _choose(self, kind: str, values: Sequence[str]) -> None:
        for start in range(0, len(values), VALUES_AN_INSERT):
            some = values[start : start + VALUES_AN_INSERT]
            rows = ", ".join(f"('{kind}', {text(value)})" for value in some)
            # every replica must have the rows before a mutation reads them, even rows that an earlier
            # attempt inserted
            self._execute(
                f"INSERT INTO {self._database}.erasing (kind, value)"
                f" {UNLOGGED}, insert_quorum = 'auto', insert_deduplicate = 0 VALUES {rows}"
            )

    def _counts(self, table: str) -> list[ErasedRows]:
        # every row of `events`, as the books count them; repeated rows of the other tables count once
        final = "" if table == "events" else " FINAL"
        step = GIVEN_UP_BY if table == "dead" else "''"
        rows = self._rows.records(
            f"SELECT {step} AS given_up_by, source, count() AS number,"
            " toUnixTimestamp(toStartOfMinute(received_at)) * 1000 AS minute"
            f" FROM {self._database}.{table}{final} WHERE {self._conditions[table]}"
            " GROUP BY given_up_by, source, minute ORDER BY given_up_by, source, minute"
        )
        return [
            ErasedRows(table, r["given_up_by"], r["source"], int(r["minute"]), int(r["number"]))
            for r in rows
        ]

    def _number(self, table: str, condition: str) -> int:
        sql = f"SELECT count() AS number FROM {self._database}.{table} WHERE {condition}"
        return int(self._rows.records(sql)[0]["number"])

    def _alter(self, table: str, what: str) -> None:
        self._execute(mutation(self._database, table, self._cluster, what))

    def _execute(self, sql: str) -> None:
        for _ in self._clickhouse.stream(sql, None):
            pass


def mutation(database: str, table: str, cluster: str, what: str) -> str:
    return f"ALTER TABLE {on(database, table, cluster)} {what} {SYNCHRONOUS}"


def on(database: str, table: str, cluster: str) -> str:
    return f"{database}.{table} ON CLUSTER {cluster}" if cluster else f"{database}.{table}"
