"""What ClickHouse's tables hold of a person: found, counted, deleted so that no file has it."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from services.core.erasures import ErasedRows, Person
from services.core.traces import Traces
from services.edge import avro
from services.edge.clickhouse_query import ClickHouse
from services.edge.clickhouse_words import is_in, moment, text

IDS_A_STATEMENT = 10_000
TABLES = (
    "duplicates",
    "session_segments",
    "profile_parts",
    "merges",
    "conflicts",
    "rejected",
    "dead",
    "events",  # last: the others are found by them
)
COUNTED = ("events", "duplicates", "rejected", "dead")  # what the books count
LETTER = (
    "concat(origin_topic, '/', toString(origin_partition), '/', toString(origin_offset), '/', step)"
)
# Of a record: whose it is, and what its sender said.
WHO = {
    *("identity_key", "owner", "names", "user_id", "anonymous_id", "client_profile_id"),
    *("client_session_id", "profile_id", "session_id", "from_profile", "into_profile", "detail"),
}
SAID = {"properties", "context", "traits"}
# The statement returns when every replica has written the parts anew. A lightweight `DELETE` would
# leave the rows in their files behind a mask.
SYNCHRONOUS = "SETTINGS mutations_sync = 2, allow_nondeterministic_mutations = 1"


@dataclass(frozen=True)
class Found:
    """Rows to delete, as conditions by table, and what of them cannot be put into one."""

    conditions: dict[str, str]
    refusals: list[str]  # event ids of `rejected`
    letters: list[str]  # of `dead`, as LETTER has them


class PersonRows:
    """`ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, clickhouse: ClickHouse, database: str, cluster: str = "") -> None:
        self._clickhouse = clickhouse
        self._database = database
        self._cluster = f" ON CLUSTER {cluster}" if cluster else ""

    def workspaces_of(self, subject: str) -> list[str]:
        """The workspaces in which somebody is known by this name."""
        person = Person.of("", subject)
        in_parts = (
            f"{is_in('identity_key', person.names)} OR {is_in('profile_id', person.profiles)}"
        )
        in_events = f"{is_in('user_id', person.users)} OR {is_in('profile_id', person.profiles)}"
        rows = self._records(
            f"SELECT DISTINCT workspace FROM {self._database}.profile_parts WHERE {in_parts}"
            f" UNION DISTINCT SELECT DISTINCT workspace FROM {self._database}.events WHERE {in_events}"
        )
        return sorted(row["workspace"] for row in rows)

    def whole(self, person: Person) -> Person:
        """The person with every identifier and profile that leads to another of theirs."""
        while True:
            of_parts = (
                f"{is_in('identity_key', person.names)} OR {is_in('owner', person.names)}"
                f" OR {is_in('profile_id', person.profiles)}"
            )
            of_merges = f"{is_in('from_profile', person.profiles)} OR {is_in('into_profile', person.profiles)}"
            parts = self._of(person, "profile_parts", "identity_key, profile_id, owner", of_parts)
            merges = self._of(person, "merges", "from_profile, into_profile", of_merges)
            grown = person.with_ties(
                [(row["identity_key"], row["profile_id"], row["owner"]) for row in parts],
                [(row["from_profile"], row["into_profile"]) for row in merges],
            )
            if grown == person:
                return person
            person = grown

    def holders(self, person: Person) -> list[str]:
        """Identifiers of others that remember one of the person's: they met on a device or a profile."""
        conflicts = self._of(person, "conflicts", "detail", self._merged(person))
        told = {row["detail"].partition(" belongs to ")[0] for row in conflicts}
        shared = self._of(
            person,
            "events",
            "DISTINCT user_id, profile_id",
            f"{is_in('anonymous_id', person.anonymous_ids)}"
            f" AND NOT ({is_in('profile_id', person.profiles)})",
        )
        for row in shared:
            told |= {f"u:{row['user_id']}"} if row["user_id"] else set()
            told |= {f"p:{row['profile_id']}"} if row["profile_id"] else set()
        return sorted(told - person.names)

    def merges(self, person: Person) -> list[tuple[str, str]]:
        """Of the person's profiles with any other, refused ones included."""
        return [
            (row["from_profile"], row["into_profile"])
            for table in ("merges", "conflicts")
            for row in self._of(person, table, "from_profile, into_profile", self._merged(person))
        ]

    def find(self, person: Person, until: int, sources: Sequence[str]) -> Found:
        """`until`: of what was received by then. `sources`: of the person's workspace."""
        within = f"workspace = {text(person.workspace)}"
        events = (
            f"{within} AND received_at <= {moment(until)}"
            f" AND ({is_in('profile_id', person.profiles)} OR {is_in('user_id', person.users)}"
            f" OR profile_id = '' AND {is_in('anonymous_id', person.anonymous_ids)})"
        )
        of_events = f"(SELECT event_id FROM {self._database}.events WHERE {events})"
        sessions = "workspace, source, profile_id, session_id"
        conditions = {
            "duplicates": f"first_event_id IN {of_events} OR event_id IN {of_events}",
            "session_segments": f"({sessions}) IN"
            f" (SELECT {sessions} FROM {self._database}.events WHERE {events})",
            # a new person's versions are above: see `Memory.versions_before` of identity
            "profile_parts": f"{within} AND {is_in('identity_key', person.names)}"
            f" AND version <= {until}",
            "merges": f"{within} AND ({self._merged(person)}) AND merged_at <= {moment(until)}",
            "conflicts": f"{within} AND ({self._merged(person)}) AND found_at <= {moment(until)}",
            "events": events,
        }
        traces = Traces(person.identifiers())
        return Found(
            conditions, self._refusals(traces, until, sources), self._letters(traces, sources)
        )

    def count(self, found: Found) -> tuple[dict[str, int], list[ErasedRows]]:
        """Rows by table, and those that the books count by what they count by."""
        totals, counts = {}, []
        for table in TABLES:
            total = 0
            for condition in self._conditions(table, found):
                if table not in COUNTED:
                    total += self._number(table, condition)
                    continue
                for rows in self._counts(table, condition):
                    total += rows.rows
                    counts.append(rows)
            totals[table] = total
        return totals, counts

    def delete(self, found: Found, person: Person, until: int) -> Iterator[str]:
        """Gone on return, table by table; names each before it begins. Safe to repeat."""
        for table in TABLES:
            yield table
            for condition in self._conditions(table, found):
                if self._number(table, condition):
                    self._alter(table, f"DELETE WHERE {condition}")
        yield "what others share"
        self._blank(person, until)

    def remaining(self, found: Found) -> dict[str, int]:
        """Tables that still have rows to delete."""
        left = {
            table: sum(self._number(table, c) for c in self._conditions(table, found))
            for table in TABLES
        }
        return {table: rows for table, rows in left.items() if rows}

    def _blank(self, person: Person, until: int) -> None:
        """Rows of others that were sent from a device of the person's stay theirs, without its id."""
        within = f"workspace = {text(person.workspace)}"
        named = f"{within} AND received_at <= {moment(until)} AND" + is_in(
            " anonymous_id", person.anonymous_ids
        )
        if self._number("events", named):
            self._alter("events", f"UPDATE anonymous_id = '' WHERE {named}")
        listed = ", ".join(text(anonymous) for anonymous in person.anonymous_ids)
        if not listed:
            return
        named = f"{within} AND ended_at <= {moment(until)} AND hasAny(anonymous_ids, [{listed}])"
        if self._number("session_segments", named):
            kept = f"arrayFilter(id -> id NOT IN ({listed}), anonymous_ids)"
            self._alter("session_segments", f"UPDATE anonymous_ids = {kept} WHERE {named}")

    def _conditions(self, table: str, found: Found) -> list[str]:
        if table == "rejected":
            return _parts("toString(event_id)", found.refusals)
        if table == "dead":
            return _parts(LETTER, found.letters)
        return [found.conditions[table]]

    def _merged(self, person: Person) -> str:
        return (
            f"{is_in('from_profile', person.profiles)} OR {is_in('into_profile', person.profiles)}"
        )

    def _refusals(self, traces: Traces, until: int, sources: Sequence[str]) -> list[str]:
        rows = self._stream(
            "SELECT toString(event_id) AS id, base64Encode(payload) AS payload"
            f" FROM {self._database}.rejected WHERE {is_in('source', [*sources, ''])}"
            f" AND received_at <= {moment(until)} AND {_mentions('payload', traces)}"
        )
        return sorted({r["id"] for r in rows if traces.named(b64decode(r["payload"]))})

    def _letters(self, traces: Traces, sources: Sequence[str]) -> list[str]:
        rows = self._stream(
            f"SELECT {LETTER} AS id, base64Encode(key) AS key, base64Encode(value) AS value"
            f" FROM {self._database}.dead WHERE {is_in('source', [*sources, ''])}"
            f" AND {_mentions('concat(key, value)', traces)}"
        )
        return sorted(
            {r["id"] for r in rows if _is_of(traces, b64decode(r["key"]), b64decode(r["value"]))}
        )

    def _counts(self, table: str, condition: str) -> list[ErasedRows]:
        # of tables whose rows may repeat each other the books count one, of events each
        final = "" if table == "events" else " FINAL"
        step = "step" if table == "dead" else "''"
        rows = self._records(
            f"SELECT {step} AS step, source, toUnixTimestamp(toStartOfMinute(received_at)) * 1000"
            f" AS minute, count() AS rows FROM {self._database}.{table}{final}"
            f" WHERE {condition} GROUP BY step, source, minute ORDER BY step, source, minute"
        )
        return [
            ErasedRows(table, r["step"], r["source"], int(r["minute"]), int(r["rows"]))
            for r in rows
        ]

    def _number(self, table: str, condition: str) -> int:
        sql = f"SELECT count() AS rows FROM {self._database}.{table} WHERE {condition}"
        return int(self._records(sql)[0]["rows"])

    def _alter(self, table: str, what: str) -> None:
        self._clickhouse.ask(
            f"ALTER TABLE {self._database}.{table}{self._cluster} {what} {SYNCHRONOUS}"
        )

    def _of(self, person: Person, table: str, columns: str, condition: str) -> list[dict[str, Any]]:
        return self._records(
            f"SELECT {columns} FROM {self._database}.{table}"
            f" WHERE workspace = {text(person.workspace)} AND ({condition})"
        )

    def _records(self, sql: str) -> list[dict[str, Any]]:
        return self._clickhouse.records(sql)

    def _stream(self, sql: str) -> Iterator[dict[str, Any]]:
        """Rows as they come: of payloads there may be more than fit into memory."""
        rest = b""
        for piece in self._clickhouse.stream(sql, "JSONEachRow"):
            *lines, rest = (rest + piece).split(b"\n")
            yield from map(msgspec.json.decode, filter(None, lines))
        if rest:
            yield msgspec.json.decode(rest)


def _mentions(expression: str, traces: Traces) -> str:
    """What may have a trace: quick, and never less than what has."""
    return f"({' OR '.join(f'position({expression}, {text(form)}) > 0' for form in traces.forms) or '0'})"


def _is_of(traces: Traces, key: bytes, value: bytes) -> bool:
    """Whether a dead record is of the person: by its fields if it is whole, else by all that is there."""
    try:
        _, record = avro.decode_any(value)
    except (avro.UnknownSchemaError, *avro.GARBAGE_ERRORS):
        return traces.anywhere(key) or traces.anywhere(value)
    who = "\n".join(str(record[name]) for name in WHO & record.keys())
    said = "\n".join(str(record[name]) for name in SAID & record.keys())
    return traces.anywhere(who.encode()) or traces.named(said.encode()) or traces.anywhere(key)


def _parts(column: str, ids: Sequence[str]) -> list[str]:
    """Conditions that are each a statement's."""
    starts = range(0, len(ids), IDS_A_STATEMENT)
    return [is_in(column, ids[start : start + IDS_A_STATEMENT]) for start in starts]
