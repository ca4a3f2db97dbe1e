"""Who a person is by what ClickHouse's tables say, and what they hold of them."""

from collections.abc import Iterator
from typing import Any

import msgspec

from services.core.erasures import Person
from services.edge.clickhouse_query import ClickHouse
from services.edge.clickhouse_words import is_in, text

# A server's log of queries must not become the place where an erased person can still be found.
UNLOGGED = "SETTINGS log_queries = 0"


class PersonRows:
    """`ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, clickhouse: ClickHouse, database: str) -> None:
        self._clickhouse = clickhouse
        self._database = database

    def workspaces_of(self, subject: str) -> list[str]:
        """The workspaces in which somebody is known by this name."""
        person = Person.of("", subject)
        names, users = is_in("identity_key", person.names), is_in("user_id", person.users)
        profiles = is_in("profile_id", person.profiles)
        rows = self.records(
            f"SELECT DISTINCT workspace FROM {self._database}.profile_parts"
            f" WHERE {names} OR {profiles} UNION DISTINCT"
            f" SELECT DISTINCT workspace FROM {self._database}.events WHERE {users} OR {profiles}"
        )
        return sorted(row["workspace"] for row in rows)

    def whole(self, person: Person) -> Person:
        """The person with every identifier and profile that leads to another of theirs."""
        while True:
            of_parts = (
                f"{is_in('identity_key', person.names)} OR {is_in('owner', person.names)}"
                f" OR {is_in('profile_id', person.profiles)}"
            )
            parts = self._of(person, "profile_parts", "identity_key, profile_id, owner", of_parts)
            merges = self._of(person, "merges", "from_profile, into_profile", merged(person))
            grown = person.with_ties(
                [(row["identity_key"], row["profile_id"], row["owner"]) for row in parts],
                [(row["from_profile"], row["into_profile"]) for row in merges],
            )
            if grown == person:
                return person
            person = grown

    def holders(self, person: Person) -> list[str]:
        """Identifiers of others that remember one of the person's: they met on a device or a profile."""
        conflicts = self._of(person, "conflicts", "detail", merged(person))
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
            for row in self._of(person, table, "from_profile, into_profile", merged(person))
        ]

    def records(self, sql: str) -> list[dict[str, Any]]:
        return self._clickhouse.records(f"{sql} {UNLOGGED}")

    def stream(self, sql: str) -> Iterator[dict[str, Any]]:
        """Rows as they come: there may be more than fit into memory."""
        rest = b""
        for piece in self._clickhouse.stream(f"{sql} {UNLOGGED}", "JSONEachRow"):
            *lines, rest = (rest + piece).split(b"\n")
            yield from map(msgspec.json.decode, filter(None, lines))
        if rest:
            yield msgspec.json.decode(rest)

    def _of(self, person: Person, table: str, columns: str, condition: str) -> list[dict[str, Any]]:
        return self.records(
            f"SELECT {columns} FROM {self._database}.{table}"
            f" WHERE workspace = {text(person.workspace)} AND ({condition})"
        )


def merged(person: Person) -> str:
    """A merge of theirs, whichever side they are on."""
    return f"{is_in('from_profile', person.profiles)} OR {is_in('into_profile', person.profiles)}"
