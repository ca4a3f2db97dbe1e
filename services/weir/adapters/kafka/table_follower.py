"""Follow a topic in a background thread that survives outages of the brokers."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from confluent_kafka import KafkaException

from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import Entry, TableReader, TailReader
from weir.runtime import logs
from weir.settings.shared import KafkaSettings

RETRY_SECONDS = 1.0
READ_SECONDS = 10.0
POLL_SECONDS = 0.5

# It may raise `UnavailableError`: then the topic is read again from its start.
Apply = Callable[[list[Entry]], None]


class TopicFollower(ABC):
    """Calls `apply` with the entries of a topic, in a separate thread. While no broker answers, it retries."""

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
        """Stop the thread; it ends before the return, or after its current poll at the latest."""
        self._stop.set()
        self._thread.join(2 * POLL_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except (KafkaException, UnavailableError) as fault:
                self._log.warning(
                    "the topic cannot be read yet", topic=self._topic, fault=str(fault)
                )
                self._stop.wait(RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - logged; without this thread the service would get no more changes
                self._log.exception("unexpected error; reading the topic again", topic=self._topic)
                self._stop.wait(RETRY_SECONDS)

    @abstractmethod
    def _follow(self) -> None:
        """Read until `_stop` is set; `KafkaException` if reading fails."""


class TableFollower(TopicFollower):
    """Follows a compacted topic from its beginning: first `apply` gets all entries in one list, then changes."""

    def _follow(self) -> None:
        reader = TableReader(self._settings, self._topic)
        try:
            whole: list[Entry] = []
            reader.read_all(lambda key, value: whole.append((key, value)), READ_SECONDS)
            self._apply(whole)
            while not self._stop.is_set():
                if entries := reader.poll(POLL_SECONDS):
                    self._apply(entries)
        finally:
            reader.close()


class TailFollower(TopicFollower):
    """Follows a topic from its present end. `following` is set once that end is known."""

    def __init__(self, settings: KafkaSettings, topic: str, apply: Apply) -> None:
        super().__init__(settings, topic, apply)
        self.following = threading.Event()

    def _follow(self) -> None:
        reader = TailReader(self._settings, self._topic)
        try:
            reader.start(READ_SECONDS)
            self.following.set()
            while not self._stop.is_set():
                if entries := reader.poll(POLL_SECONDS):
                    self._apply(entries)
        finally:
            reader.close()
