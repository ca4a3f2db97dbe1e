"""Look up the status of an event: ask ClickHouse and the topics, and combine their answers."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing

from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.partition_reader import unavailable_on_error
from weir.event_status.clickhouse_rows import EventRowQueries, SourceScope
from weir.event_status.model import EventRows, EventStatus, TopicEvidence, decide
from weir.event_status.topic_records import TopicSearch
from weir.settings.shared import ClickHouseSettings, KafkaSettings

AWAY_SECONDS = 5.0
AGAIN_SECONDS = 1.0  # by then an event on its way between two places is in one of them


class EventStatusLookup:
    """A lookup of event statuses. Thread-safe. If a system is down, the answer says what could not be asked."""

    def __init__(self, kafka: KafkaSettings, clickhouse: ClickHouseSettings) -> None:
        self._kafka = kafka
        self._rows = EventRowQueries(clickhouse)
        # why ClickHouse did not answer, and until when (monotonic seconds) it is not asked again
        self._away = ("", 0.0)

    def find(self, sought: str, scope: SourceScope, seconds: float) -> EventStatus:
        """Return the status of an event id or of a client's own id.

        `scope`: the sources that the caller may see; None: all. `seconds`: how long to read topics.
        """
        began = time.monotonic()
        where = self._look(sought, scope, seconds)
        in_time = time.monotonic() - began < seconds
        # accepted, but found in no later place
        if where.fate == "unknown" and where.event_id and in_time:
            time.sleep(AGAIN_SECONDS)
            where = self._look(sought, scope, seconds)
        return where

    def _look(self, sought: str, scope: SourceScope, seconds: float) -> EventStatus:
        event_id = minted_id(sought)
        if event_id is None:
            return self._look_by_key(sought, scope, seconds)
        minted = minted_at(event_id)
        rows = self._ask_rows(lambda: self._rows.of_event(event_id, minted, scope))
        trail = self._trail(lambda records: records.of_event(event_id, minted, scope), seconds)
        where = decide(sought, rows, trail)
        if where.fate != "unknown" or where.event_id:
            return where
        by_key = self._look_by_key(sought, scope, seconds)
        # a client's own id may be a UUIDv7 as well
        return where if by_key.fate == "unknown" and by_key.certain else by_key

    def _look_by_key(self, key: str, scope: SourceScope, seconds: float) -> EventStatus:
        rows = self._ask_rows(lambda: self._rows.of_key(key, scope))
        trail = self._trail(lambda records: records.of_key(key, scope), seconds)
        return decide(key, rows, trail)

    def _ask_rows(self, question: Callable[[], EventRows]) -> EventRows | str:
        """Return the rows, or why there are none.

        After ClickHouse did not answer it is not asked again for AWAY_SECONDS.
        """
        fault, until = self._away
        if time.monotonic() < until:
            return fault
        try:
            return question()
        except UnavailableError as unreached:
            self._away = (str(unreached), time.monotonic() + AWAY_SECONDS)
            return str(unreached)
        except RefusedError as refused:
            return str(refused)

    def _trail(
        self, search: Callable[[TopicSearch], TopicEvidence], seconds: float
    ) -> TopicEvidence | str:
        try:
            with unavailable_on_error(), closing(TopicSearch(self._kafka, seconds)) as records:
                return search(records)
        except (UnavailableError, RefusedError) as fault:
            return str(fault)


def minted_id(text: str) -> uuid.UUID | None:
    """Return the text as an event id if it is one: a UUIDv7, which contains its time of minting."""
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None
    return found if found.version == 7 else None


def minted_at(event_id: uuid.UUID) -> int:
    """Return when a UUIDv7 was minted, in epoch milliseconds (RFC 9562, 5.7)."""
    return int.from_bytes(event_id.bytes[:6])
