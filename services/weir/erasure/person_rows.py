"""Queries that find a person's identifiers, profiles and merges in ClickHouse."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.clickhouse.sql_literals import is_in, portions, text
from weir.erasure.model import ErasedPerson

# Otherwise the server's query log would still name an erased person.
UNLOGGED = "SETTINGS log_queries = 0"
# Tables read with FINAL: only the latest row of a key counts; an outdated row may attribute another person's
# identifier to this person.
REPLACED = ("profile_parts", "merges")


class PersonRows:
    """Questions to ClickHouse. `ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, clickhouse: ClickHouse, database: str) -> None:
        self._clickhouse = clickhouse
        self._database = database

    def workspaces_of(self, subject: str) -> list[str]:
        """Return the workspaces in which the subject is known."""
        person = ErasedPerson.of("", subject)
        names, users = is_in("identity_key", person.names), is_in("user_id", person.users)
        profiles = is_in("profile_id", person.profiles)
        rows = self.records(
            f"SELECT DISTINCT workspace FROM {self._database}.profile_parts"
            f" WHERE {names} OR {profiles} UNION DISTINCT"
            f" SELECT DISTINCT workspace FROM {self._database}.events WHERE {users} OR {profiles}"
        )
        return sorted(row["workspace"] for row in rows)

    def workspaces_of_source(self, source: str) -> list[str]:
        """Return the workspaces of the source's events."""
        rows = self.records(
            f"SELECT DISTINCT workspace FROM {self._database}.events WHERE source = {text(source)}"
        )
        return sorted(row["workspace"] for row in rows)

    def whole(self, person: ErasedPerson) -> ErasedPerson:
        """Return the person with every identifier and profile that is linked to theirs, however indirectly."""
        asked = ErasedPerson(person.workspace, frozenset(), frozenset(), person.ids)
        while person != asked:
            names, profiles = person.names - asked.names, person.profiles - asked.profiles
            asked = person
            parts = self._parts(person.workspace, names, profiles)
            merges = map(_sides, self._merged("merges", person.workspace, profiles))
            person = person.with_ties(parts, merges)
        return person

    def holders(self, person: ErasedPerson) -> list[str]:
        """Return other people's identifiers whose state remembers one of the person's.

        They share a device, or a merge of their profiles was refused.
        """
        conflicts = self._merged("conflicts", person.workspace, person.profiles, ", detail")
        found = {row["detail"].partition(" belongs to ")[0] for row in conflicts}
        for portion in portions({"device": person.anonymous_ids}):
            shared = self._of(
                person.workspace,
                "events",
                "DISTINCT user_id, profile_id",
                is_in("anonymous_id", portion["device"]),
            )
            for row in shared:
                if row["profile_id"] not in person.profiles:
                    found |= {f"u:{row['user_id']}"} if row["user_id"] else set()
                    found |= {f"p:{row['profile_id']}"} if row["profile_id"] else set()
        return sorted(found - person.names)

    def merges(self, person: ErasedPerson) -> list[tuple[str, str]]:
        """Return (from profile, into profile) of the merges of the person's profiles, refused merges included."""
        return [
            _sides(row)
            for table in ("merges", "conflicts")
            for row in self._merged(table, person.workspace, person.profiles)
        ]

    def others_sources(self, workspace: str, workspaces: Mapping[str, str]) -> list[str]:
        """Return the sources that belong to other workspaces only.

        The registry (`workspaces`, by source) and all events tell. A source that was removed or moved
        and may have belonged to this workspace is left out.
        """
        known = set(workspaces.items())
        for row in self.records(f"SELECT DISTINCT source, workspace FROM {self._database}.events"):
            known.add((row["source"], row["workspace"]))
        return sorted(
            {source for source, _ in known} - {source for source, of in known if of == workspace}
        )

    def records(self, sql: str) -> list[dict[str, Any]]:
        return self._clickhouse.records(f"{sql} {UNLOGGED}")

    def stream(self, sql: str) -> Iterator[dict[str, Any]]:
        """Yield rows as they arrive: there may be more than fit into memory."""
        rest = b""
        for piece in self._clickhouse.stream(f"{sql} {UNLOGGED}", "JSONEachRow"):
            *lines, rest = (rest + piece).split(b"\n")
            yield from map(msgspec.json.decode, filter(None, lines))
        if rest:
            yield msgspec.json.decode(rest)

    def _parts(
        self, workspace: str, names: Iterable[str], profiles: Iterable[str]
    ) -> Iterator[tuple[str, str, str]]:
        for some in portions({"name": names, "profile": profiles}):
            found = self._of(
                workspace,
                "profile_parts",
                "identity_key, profile_id, owner",
                f"{is_in('identity_key', some['name'])} OR {is_in('owner', some['name'])}"
                f" OR {is_in('profile_id', some['profile'])}",
            )
            for row in found:
                yield row["identity_key"], row["profile_id"], row["owner"]

    def _merged(
        self, table: str, workspace: str, profiles: Iterable[str], more: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Yield the merges of these profiles, whichever side they are on. A merge may come twice.

        Only current rows count: a device that an earlier owner took back no longer belongs to the later owner.
        """
        for some in portions({"profile": profiles}):
            theirs = " OR ".join(
                is_in(side, some["profile"]) for side in ("from_profile", "into_profile")
            )
            columns = f"from_profile, into_profile{more}"
            yield from self._of(workspace, table, columns, theirs)

    def _of(self, workspace: str, table: str, columns: str, condition: str) -> list[dict[str, Any]]:
        return self.records(
            f"SELECT {columns} FROM {self._database}.{table}{' FINAL' * (table in REPLACED)}"
            f" WHERE workspace = {text(workspace)} AND ({condition})"
        )


def _sides(merge: Mapping[str, str]) -> tuple[str, str]:
    return merge["from_profile"], merge["into_profile"]
