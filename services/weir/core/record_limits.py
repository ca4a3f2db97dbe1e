"""Limits of record sizes. Each limit fits into the next, so a later stage can write what an earlier one took:

    an accepted event  <  any other record  <  a dead letter, which holds a whole record

A record's size is that of its key and value. Topics allow a little more, because Kafka adds its own bytes.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from weir.core import topics

KIBIBYTE = 1024
EVENT_BYTES = 1_024 * KIBIBYTE
RECORD_BYTES = 4_096 * KIBIBYTE
# A stage adds at most this: the ids that identity appends, a longer key, or the fields around a payload
# in a dead letter or a rejected event.
ADDED_BYTES = 64 * KIBIBYTE
LETTER_BYTES = RECORD_BYTES + ADDED_BYTES
# Kafka adds 61 bytes to each batch and about 30 to each record.
FRAME_BYTES = KIBIBYTE
# A rejected request's body is stored whole.
BODY_BYTES = RECORD_BYTES - ADDED_BYTES
# What librdkafka gathers for one request to a broker: a topic's limit applies to the whole batch.
BATCH_BYTES = 1_000_000

# An accepted event passes these topics whole. Here: by how many times ADDED_BYTES it may have grown there.
GROWTH = {topics.ACCEPTED: 0, topics.UNIQUE: 1, topics.RESOLVED: 1, topics.DEAD: 2}


def topic_bytes(topic: str) -> int:
    """Return the `max.message.bytes` that a topic needs."""
    return (LETTER_BYTES if topic == topics.DEAD else RECORD_BYTES) + FRAME_BYTES


MAX_TOPIC_BYTES = topic_bytes(topics.DEAD)  # no topic needs more


class LowTopic(NamedTuple):
    """A topic that allows less than Weir needs."""

    topic: str
    allowed: int
    needed: int


class RecordLimits:
    """The limits in force: Weir's own, or lower ones where a topic of the cluster allows less."""

    def __init__(self, allowed: Mapping[str, int] | None = None) -> None:
        """`allowed`: `max.message.bytes` by topic, from the brokers; a topic that is not listed allows enough."""
        self._allowed = dict(allowed or {})
        events = {name: self.of(name) - steps * ADDED_BYTES for name, steps in GROWTH.items()}
        self._lowest = min(events, key=lambda name: events[name])
        # the size of the largest record that a dead letter stores whole
        self.letter = max(0, self.of(topics.DEAD) - ADDED_BYTES)
        self.event = max(0, min(EVENT_BYTES, events[self._lowest]))
        self.batch = min(BATCH_BYTES, *map(self._allows, self._allowed)) if allowed else BATCH_BYTES

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordLimits) and self._allowed == other._allowed

    def __hash__(self) -> int:
        return hash(frozenset(self._allowed.items()))

    def of(self, topic: str) -> int:
        """Return the size in bytes of the largest record that the topic takes."""
        return max(0, min(topic_bytes(topic), self._allows(topic)) - FRAME_BYTES)

    def low(self) -> list[LowTopic]:
        """Return the topics that allow less than Weir needs."""
        return [
            LowTopic(name, allowed, topic_bytes(name))
            for name, allowed in sorted(self._allowed.items())
            if allowed < topic_bytes(name)
        ]

    def explain_event(self, size: int) -> str:
        """Return the text that says why an event whose record has this size is rejected."""
        text = (
            f"{size:,} bytes as a record, with shared context and headers; at most {self.event:,}"
        )
        if self.event == EVENT_BYTES:
            return text
        return (
            f"{text}, because the topic {self._lowest} allows only {self._allows(self._lowest):,}"
        )

    def _allows(self, topic: str) -> int:
        return self._allowed.get(topic, topic_bytes(topic))


class LimitsInForce(Protocol):
    """The limits in force; they change when an operator reconfigures a topic."""

    @property
    def present(self) -> RecordLimits: ...

    def refresh(self) -> bool:
        """Read the limits now; return whether they have changed."""


class WeirsOwnLimits:
    """`LimitsInForce` for a cluster whose topics all allow what Weir needs."""

    present = RecordLimits()

    def refresh(self) -> bool:
        return False
