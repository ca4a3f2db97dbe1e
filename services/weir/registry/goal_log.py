"""Read and change the goals of all sites in the registry's topic, one process at a time."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Generic, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import Entry, client_options
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.table_entries import apply_entries
from weir.adapters.kafka.transactions import Transactions
from weir.core import topics
from weir.core.batch import Output
from weir.core.registry import Goal
from weir.registry.follower import GOAL_KIND, Goals, goal_entry, registry_key
from weir.runtime.ports import FencedError, StreamBrokenError
from weir.settings.shared import KafkaSettings

TRANSACTIONAL_ID = "weir-goals"  # shared by all processes that change goals
PARTITION = 0  # the registry's topic has one partition
SECONDS = 5  # timeout of each request to the brokers, and of a transaction
TURN_SECONDS = 10.0  # how long a change is retried while other processes change goals too
PAUSE_SECONDS = 0.1  # maximum pause of a process that was fenced; doubled each time
LONGEST_PAUSE_SECONDS = 1.6
POLL_SECONDS = 0.1
# Tombstones stay in the topic for a day. A reader that has paused for longer may have missed one.
FRESH_SECONDS = 3_600.0
GOAL_PREFIX = registry_key(GOAL_KIND, "")

T_co = TypeVar("T_co", covariant=True)


class GoalDecision(NamedTuple, Generic[T_co]):
    """An answer, and the goal that it creates or deletes, if any."""

    answer: T_co
    made: Goal | None = None
    deleted: Goal | None = None


class GoalQuestion(NamedTuple):
    """A decision to make from all goals of a site, the oldest first. `decide` may be called several times."""

    site_id: str
    decide: Callable[[list[Goal]], GoalDecision[Any]]


def decide_all(questions: Sequence[GoalQuestion], goals: Goals) -> list[GoalDecision[Any]]:
    """Decide each question as if the decisions before it were already applied."""
    present: dict[str, list[Goal]] = {}
    decisions = []
    for site_id, decide in questions:
        of_site = present.setdefault(site_id, goals.of(site_id))
        decision = decide(list(of_site))
        if decision.made is not None:
            of_site.append(decision.made)
        if decision.deleted is not None:
            of_site.remove(decision.deleted)
        decisions.append(decision)
    return decisions


def entries_of(decisions: Sequence[GoalDecision[Any]]) -> list[Entry]:
    """Return the registry entries to write, in order."""
    entries: list[Entry] = []
    for decision in decisions:
        if decision.made is not None:
            entries.append(goal_entry(decision.made))
        if decision.deleted is not None:
            entries.append((goal_entry(decision.deleted)[0], None))
    return entries


class GoalLog:
    """Decides questions from one thread, each on the present state of the topic.

    All processes write with one transactional id. Brokers refuse transactions of all but the latest producer
    of an id, so a committed decision was made after the last change of any other process.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        # Being fenced is normal here, but librdkafka would log it as a fatal error at any log level.
        silent = logging.getLogger(f"{__name__}.librdkafka")
        silent.disabled = True
        self._options = {**client_options(settings), "logger": silent}
        self._writer: Transactions | None = None
        self._goals = Goals()
        self._next = 0  # the offset up to which `_goals` is complete
        self._read_at = time.monotonic()

    def decide(self, questions: Sequence[GoalQuestion]) -> list[Any]:
        """Return the answers; their changes are durable. `UnavailableError`: that is unknown."""
        deadline = time.monotonic() + TURN_SECONDS
        pause = PAUSE_SECONDS
        while True:
            try:
                return self._attempt(questions)
            except FencedError:
                self._writer = None
                if time.monotonic() > deadline:
                    raise UnavailableError("other gateways keep changing goals") from None
                time.sleep(random.uniform(0, pause))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            except (KafkaException, StreamBrokenError, BufferError) as fault:
                self._writer = None
                raise UnavailableError(
                    f"the registry cannot be read or written: {fault}"
                ) from fault

    def _attempt(self, questions: Sequence[GoalQuestion]) -> list[Any]:
        """Try once. `FencedError`: nothing is written, because another process was faster."""
        decisions = self._decide(questions)
        if entries := entries_of(decisions):
            if self._writer is None:
                self._writer = Transactions(
                    self._options, TRANSACTIONAL_ID, SECONDS, [topics.REGISTRY]
                )
                # decide again, with everything that other processes had written until then
                decisions = self._decide(questions)
                entries = entries_of(decisions)
            self._writer.begin()
            outputs = [Output(key, value or b"") for key, value in entries]
            self._writer.write(topics.REGISTRY, PARTITION, outputs)
            self._writer.commit()
        return [decision.answer for decision in decisions]

    def _decide(self, questions: Sequence[GoalQuestion]) -> list[GoalDecision[Any]]:
        self._read_on()
        return decide_all(questions, self._goals)

    def _read_on(self) -> None:
        """Bring `_goals` up to the topic's present end. `KafkaException` if that takes more than SECONDS."""
        began_at = time.monotonic()
        if began_at - self._read_at > FRESH_SECONDS:
            self._forget()
        place = TopicPartition(topics.REGISTRY, PARTITION, self._next)
        with closing(PartitionReader(self._options, SECONDS).open([place])) as reader:
            end = self._next + reader.remaining().get(PARTITION, 0)
            while reader.remaining():
                for message in reader.poll(POLL_SECONDS):
                    self._apply(message.key() or b"", message.value())
                    self._next = (message.offset() or 0) + 1
                if time.monotonic() - began_at > SECONDS and reader.remaining():
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "reading the registry"))
        self._next = end
        self._read_at = began_at

    def _apply(self, key: bytes, value: bytes | None) -> None:
        if key.startswith(GOAL_PREFIX):
            apply_entries(topics.REGISTRY, [(key, value)], self._goals.apply)

    def _forget(self) -> None:
        self._goals = Goals()
        self._next = 0
        # what the next attempts read stays, though it may take several to read the whole topic
        self._read_at = time.monotonic()
        self._writer = None  # brokers forget a transactional id that is idle for days
