"""Where an event is: ClickHouse and the topics are asked, and the answer holds for what both say."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing

from weir.adapters.errors import NotReachedError, RefusedError
from weir.adapters.kafka.search import clear_errors
from weir.event_status.clickhouse_rows import EventRowQueries, Scope
from weir.event_status.model import EventRows, EventStatus, TopicEvidence, decide
from weir.event_status.topic_records import TopicSearch
from weir.settings.shared import ClickHouseSettings, KafkaSettings

AWAY_SECONDS = 5.0
AGAIN_SECONDS = 1.0  # an event that is between two places is in one of them by then


class EventStatusLookup:
    """Answers from any thread, whatever is away: an answer says what could not be asked."""

    def __init__(self, kafka: KafkaSettings, clickhouse: ClickHouseSettings) -> None:
        self._kafka = kafka
        self._rows = EventRowQueries(clickhouse)
        self._away = (
            "",
            0.0,
        )  # why ClickHouse did not answer, and until when it is not asked again

    def find(self, sought: str, scope: Scope, seconds: float) -> EventStatus:
        """Of an event id or a client's own id. `scope`: the sources that may be seen; None: all.

        `seconds`: how long the topics may be read.
        """
        began = time.monotonic()
        where = self._look(sought, scope, seconds)
        in_time = time.monotonic() - began < seconds
        if where.fate == "unknown" and where.event_id and in_time:  # accepted, and in no place
            time.sleep(AGAIN_SECONDS)
            where = self._look(sought, scope, seconds)
        return where

    def _look(self, sought: str, scope: Scope, seconds: float) -> EventStatus:
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
        # a client's own id may be a UUIDv7, too
        return where if by_key.fate == "unknown" and by_key.certain else by_key

    def _look_by_key(self, key: str, scope: Scope, seconds: float) -> EventStatus:
        rows = self._ask_rows(lambda: self._rows.of_key(key, scope))
        trail = self._trail(lambda records: records.of_key(key, scope), seconds)
        return decide(key, rows, trail)

    def _ask_rows(self, question: Callable[[], EventRows]) -> EventRows | str:
        """Rows, or why there are none; a server that hangs is waited for once, then left alone for a while."""
        fault, until = self._away
        if time.monotonic() < until:
            return fault
        try:
            return question()
        except NotReachedError as unreached:
            self._away = (str(unreached), time.monotonic() + AWAY_SECONDS)
            return str(unreached)
        except RefusedError as refused:
            return str(refused)

    def _trail(
        self, search: Callable[[TopicSearch], TopicEvidence], seconds: float
    ) -> TopicEvidence | str:
        try:
            with clear_errors(), closing(TopicSearch(self._kafka, seconds)) as records:
                return search(records)
        except (NotReachedError, RefusedError) as fault:
            return str(fault)


def minted_id(text: str) -> uuid.UUID | None:
    """The event id that a text is, if it is one: UUIDv7, with the time of its minting in it."""
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None
    return found if found.version == 7 else None


def minted_at(event_id: uuid.UUID) -> int:
    """Epoch milliseconds (RFC 9562, 5.7)."""
    return int.from_bytes(event_id.bytes[:6])
