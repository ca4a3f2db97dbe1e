"""A compacted topic as a stream of changes, from a thread that outlives the broker's absences."""

import threading
from collections.abc import Callable

from confluent_kafka import KafkaException

from services.edge.kafka import Entry, TableReader
from services.runtime import logs
from services.runtime.config import KafkaSettings

RETRY_SECONDS = 1.0
READ_SECONDS = 10.0
POLL_SECONDS = 0.5

Apply = Callable[[list[Entry]], None]


class TableFollower:
    """Reads a topic whole, then follows it: `apply` gets the first reading as one list, then changes.

    `apply` is called in the follower's own thread. While no broker answers, it tries again.
    """

    def __init__(self, settings: KafkaSettings, topic: str, apply: Apply) -> None:
        self._settings = settings
        self._topic = topic
        self._apply = apply
        self._stop = threading.Event()
        self._log = logs.get("gateway")
        self._thread = threading.Thread(target=self._run, name=f"follow-{topic}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ended on return, or after the present poll at the latest."""
        self._stop.set()
        self._thread.join(2 * POLL_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            reader = TableReader(self._settings, self._topic)
            try:
                self._follow(reader)
            except KafkaException as fault:
                self._log.warning("table not readable yet", topic=self._topic, fault=str(fault))
                self._stop.wait(RETRY_SECONDS)
            finally:
                reader.close()

    def _follow(self, reader: TableReader) -> None:
        whole: list[Entry] = []
        reader.read_all(lambda key, value: whole.append((key, value)), READ_SECONDS)
        self._apply(whole)
        while not self._stop.is_set():
            if entries := reader.poll(POLL_SECONDS):
                self._apply(entries)
