"""Read letters from ClickHouse page by page, and find which of their events are stored already."""

import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from weir.adapters.clickhouse.query import ClickHouse
from weir.redelivery.dead_letters import DeadLetter
from weir.redelivery.letter_filter import LetterFilter
from weir.redelivery.model import Identity, RejectedLetter

PAGE = 200  # letters; each may be some MiB
NO_ID = uuid.UUID(int=0)
MILLISECONDS = "toUnixTimestamp64Milli(received_at) AS at"

DEAD_COLUMNS = (
    "origin_topic, origin_partition, origin_offset, step, source, toString(event_id) AS id,"
    f" {MILLISECONDS}, hex(key) AS key_hex, hex(value) AS value_hex"
)
REFUSED_COLUMNS = (
    f"toString(event_id) AS id, source, {MILLISECONDS}, door, ip, user_agent,"
    " hex(payload) AS payload_hex"
)


class LetterTables:
    """Queries for letters. `ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, clickhouse: ClickHouse, database: str) -> None:
        self._clickhouse = clickhouse
        self._database = database

    def list_dead(self, chosen: LetterFilter, limit: int) -> list[dict[str, Any]]:
        """Return the latest dead letters as `weir dead list` shows them, each with the time of its replay."""
        return self._clickhouse.records(
            "SELECT concat(origin_topic, '/', toString(origin_partition), '/',"
            " toString(origin_offset)) AS id, toString(died_at) AS died_at, step, source, reason,"
            " detail, toString(event_id) AS event_id, version, length(value) AS bytes,"
            " if(r.letter = '', '', toString(r.recovered_at)) AS recovered"
            f" FROM (SELECT * FROM {self._database}.dead FINAL WHERE {chosen.where()}"
            " ORDER BY died_at DESC, origin_topic, origin_partition, origin_offset"
            f" LIMIT {limit}) AS d"
            " LEFT JOIN (SELECT letter, step, recovered_at"
            f" FROM {self._database}.recoveries FINAL WHERE kind = 'dead') AS r"
            " ON r.letter = id AND r.step = d.step"
            " ORDER BY d.died_at DESC, id",
            chosen.parameters,
        )

    def list_rejected(self, chosen: LetterFilter, limit: int) -> list[dict[str, Any]]:
        """Return the latest rejected events as `weir rejected list` shows them, each with the time of its replay."""
        return self._clickhouse.records(
            "SELECT toString(event_id) AS id, toString(received_at) AS received_at, source, door,"
            " code, field, detail, client_id, length(payload) AS bytes,"
            " if(r.letter = '', '', toString(r.recovered_at)) AS recovered"
            f" FROM (SELECT * FROM {self._database}.rejected FINAL WHERE {chosen.where()}"
            f" ORDER BY received_at DESC, event_id LIMIT {limit}) AS d"
            " LEFT JOIN (SELECT letter, recovered_at"
            f" FROM {self._database}.recoveries FINAL WHERE kind = 'rejected') AS r"
            " ON r.letter = id"
            " ORDER BY d.received_at DESC, id",
            chosen.parameters,
        )

    def show_dead(self, chosen: LetterFilter) -> list[dict[str, Any]]:
        """Return whole rows of dead letters, keys and values as hex."""
        return self._clickhouse.records(
            "SELECT *, hex(key) AS key, hex(value) AS value"
            f" FROM (SELECT * FROM {self._database}.dead FINAL)"
            f" WHERE {chosen.where()}"
            " ORDER BY origin_topic, origin_partition, origin_offset, step",
            chosen.parameters,
        )

    def show_rejected(self, event_id: uuid.UUID) -> list[dict[str, Any]]:
        """Return the whole row of a rejected event, its payload as hex."""
        return self._clickhouse.records(
            "SELECT *, hex(payload) AS payload"
            f" FROM (SELECT * FROM {self._database}.rejected FINAL)"
            " WHERE event_id = {event_id:UUID}",
            {"event_id": str(event_id)},
        )

    def count(self, table: str, chosen: LetterFilter) -> int:
        sql = f"SELECT count() AS n FROM {self._database}.{table} FINAL WHERE {chosen.where()}"
        return int(self._clickhouse.records(sql, chosen.parameters)[0]["n"])

    def dead(self, chosen: LetterFilter) -> Iterator[list[DeadLetter]]:
        """Yield pages of dead letters in the order of their origin, so that a replay keeps that order."""
        order = "origin_topic, origin_partition, origin_offset, step"
        after = "({topic:String}, {partition:Int32}, {offset:Int64}, {by:String})"
        last: dict[str, Any] = {"topic": "", "partition": -1, "offset": -1, "by": ""}
        while rows := self._page("dead", DEAD_COLUMNS, order, after, chosen, last):
            yield [_dead(row) for row in rows]
            final = rows[-1]
            last = {
                "topic": final["origin_topic"],
                "partition": int(final["origin_partition"]),
                "offset": int(final["origin_offset"]),
                "by": final["step"],
            }

    def refused(self, chosen: LetterFilter) -> Iterator[list[RejectedLetter]]:
        """Yield pages of rejected events in the order of receipt."""
        order = "toUnixTimestamp64Milli(received_at), event_id"
        after = "({at:Int64}, {last:UUID})"
        last: dict[str, Any] = {"at": -(1 << 62), "last": str(NO_ID)}
        while rows := self._page("rejected", REFUSED_COLUMNS, order, after, chosen, last):
            yield [_refused(row) for row in rows]
            last = {"at": int(rows[-1]["at"]), "last": rows[-1]["id"]}

    def stored(self, identities: Collection[Identity]) -> dict[Identity, str]:
        """Return, by identity, the event id under which `weir.events` already has the event.

        That is the event itself, or an event with the same source and idempotency key.
        """
        if not identities:
            return {}
        events = f"SELECT toString(event_id) AS id, source, hex(idempotency_key) AS key FROM {self._database}.events"
        ids = ", ".join(f"'{identity.event_id}'" for identity in identities)
        sql = f"{events} WHERE event_id IN ({ids})"
        keyed = [identity for identity in identities if identity.idempotency_key]
        if keyed:
            sources = ", ".join({_quoted(identity.source) for identity in keyed})
            keys = ", ".join(_quoted(identity.idempotency_key) for identity in keyed)
            sql += (
                f" UNION ALL {events} WHERE source IN ({sources}) AND idempotency_key IN ({keys})"
            )
        by_id: dict[str, str] = {}
        by_key: dict[tuple[str, str], str] = {}
        for row in self._clickhouse.records(sql):
            by_id[row["id"]] = row["id"]
            by_key[row["source"], bytes.fromhex(row["key"]).decode()] = row["id"]
        found = {}
        for identity in identities:
            known = by_id.get(str(identity.event_id)) or by_key.get(identity[1:])
            if known is not None:
                found[identity] = known
        return found

    def _page(
        self,
        table: str,
        columns: str,
        order: str,
        after: str,
        chosen: LetterFilter,
        last: dict[str, Any],
    ) -> Sequence[dict[str, Any]]:
        return self._clickhouse.records(
            f"SELECT {columns} FROM {self._database}.{table} FINAL"
            f" WHERE {chosen.where()} AND ({order}) > {after} ORDER BY {order} LIMIT {PAGE}",
            chosen.parameters | last,
        )


def _quoted(text: str) -> str:
    """Return the text as an SQL expression that is safe for any content."""
    return f"unhex('{text.encode().hex()}')"


def _dead(row: dict[str, Any]) -> DeadLetter:
    event_id = uuid.UUID(row["id"])
    return DeadLetter(
        row["origin_topic"],
        int(row["origin_partition"]),
        int(row["origin_offset"]),
        row["step"],
        row["source"],
        int(row["at"]),
        event_id.bytes if event_id != NO_ID else None,
        bytes.fromhex(row["key_hex"]),
        bytes.fromhex(row["value_hex"]),
    )


def _refused(row: dict[str, Any]) -> RejectedLetter:
    return RejectedLetter(
        uuid.UUID(row["id"]).bytes,
        row["source"],
        int(row["at"]),
        row["door"],
        row["ip"],
        row["user_agent"],
        bytes.fromhex(row["payload_hex"]),
    )
