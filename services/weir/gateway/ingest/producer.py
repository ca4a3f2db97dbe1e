"""Write a request's records and report when all are durable; track whether the brokers acknowledge."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from weir.adapters.kafka.producer import NOT_TAKEN, is_permanent
from weir.adapters.kafka.record_limits import LimitsFollower
from weir.core import topics
from weir.core.topics import PartitionKey
from weir.gateway.http.timerfd_poller import Pulse, make_pulse

PULSE_SECONDS = 0.000_5
PROBE_SECONDS = 1.0
READY_SECONDS = 5.0  # ready: a record was acknowledged within this time
# A partition fails if writes to it have failed for READY_SECONDS, the last one within this time, and none succeeded.
FAILING_SECONDS = 30.0


# topic, key, value (None: a deletion); a plain tuple, because there is one for each event
KafkaRecord = tuple[str, bytes, bytes | None]


class RecordProducer(Protocol):
    """The Kafka producer that this module needs: see `services/weir/adapters/kafka/producer.py`."""

    write: Callable[..., None]
    poll: Callable[[float], int]

    def flush(self, seconds: float) -> int: ...

    def __len__(self) -> int: ...


class DeliveredMessage(Protocol):
    """A record as the Kafka client returns it with its delivery report."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def value(self) -> bytes | None: ...


class Written(NamedTuple):
    """The outcome of writing records."""

    known: bool  # every record is either on all in-sync replicas or refused
    refused: Sequence[int] = ()  # positions of the records that the brokers will never accept
    begun: bool = True  # at least one record was handed to the Kafka client, so it may be stored

    @property
    def durable(self) -> bool:
        """Whether every record is on all in-sync replicas."""
        return self.known and not self.refused


class Delivery:
    """The delivery reports of one request's records; the last one wakes the request."""

    __slots__ = ("error", "left", "producer", "refused", "waiter")

    def __init__(self, producer: "GatewayProducer", left: int) -> None:
        self.producer = producer
        self.left = left
        self.error: object = None
        self.refused: list[DeliveredMessage] = []
        self.waiter: asyncio.Future[None] = producer.loop.create_future()

    def __call__(self, error: object, record: DeliveredMessage) -> None:
        if error is not None:
            if is_permanent(error):
                self.refused.append(record)
            else:
                self.error = error
                self.producer.failing.failed(record, time.monotonic())
        elif self.producer.failing:
            self.producer.failing.succeeded(record)
        self.left -= 1
        if not self.left:
            self.producer.complete(self)


class FailingPartitions:
    """The partitions whose latest writes have failed, so that a gateway that cannot write events says so."""

    def __init__(self) -> None:
        # by topic and partition: the times of the first and the last failure
        self._spans: dict[PartitionKey, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._spans)

    def failed(self, record: DeliveredMessage, now: float) -> None:
        place = (record.topic() or "", record.partition() or 0)
        first, last = self._spans.get(place, (now, now))
        self._spans[place] = (now if now - last > FAILING_SECONDS else first, now)

    def succeeded(self, record: DeliveredMessage) -> None:
        self._spans.pop((record.topic() or "", record.partition() or 0), None)

    def named(self, now: float) -> list[str]:
        """Return the partitions that fail now, as topic-partition."""
        return sorted(
            f"{topic}-{partition}"
            for (topic, partition), (first, last) in self._spans.items()
            if last - first >= READY_SECONDS and now - last < FAILING_SECONDS
        )


class GatewayProducer:
    """The producer of all requests of a process. Its queue is bounded: records that do not fit fail at once."""

    def __init__(
        self, output: RecordProducer, loop: asyncio.AbstractEventLoop, limits: LimitsFollower
    ) -> None:
        self.loop = loop
        self._limits = limits
        self.outstanding = 0  # deliveries in progress
        self.failing = FailingPartitions()
        self.acknowledged_at = float("-inf")
        self._output = output
        self._pulse: Pulse = make_pulse(loop, PULSE_SECONDS, lambda: output.poll(0))
        self._probe: Delivery | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start probing the brokers: once a second, unless a record was acknowledged just before."""
        if self._probe is None and time.monotonic() - self.acknowledged_at > PROBE_SECONDS / 2:
            self._send_probe()
        self._output.poll(0)  # delivers errors and statistics, even if no request waits
        self._timer = self.loop.call_later(PROBE_SECONDS, self.start)

    @property
    def ready(self) -> bool:
        """Whether a record, of a request or a probe, was acknowledged within READY_SECONDS."""
        return time.monotonic() - self.acknowledged_at < READY_SECONDS

    def trouble(self) -> str:
        """Return why events cannot be written, in one sentence; empty if they can, as far as is known."""
        if not self.ready:
            return "the brokers acknowledged no record in the last seconds"
        if failing := self.failing.named(time.monotonic()):
            return f"the brokers do not acknowledge records of {', '.join(failing[:5])}"
        return ""

    async def write(self, records: Sequence[KafkaRecord], timestamp: int) -> Written:
        """Write records; on return each is on all in-sync replicas, or refused, or its outcome is unknown."""
        written = await self._attempt(records, timestamp)
        if not written.refused or not written.known:
            return written
        # Brokers refuse a whole batch because of one record, or because of the batch's size: retry one by one.
        await self.loop.run_in_executor(None, self._limits.refresh)
        refused = []
        for place in written.refused:
            if self._fits(records[place]):
                alone = await self._attempt([records[place]], timestamp)
                if not alone.known:
                    return Written(False)
                if alone.durable:
                    continue
            refused.append(place)
        return Written(True, refused)

    def _fits(self, record: KafkaRecord) -> bool:
        topic, key, value = record
        return len(key) + len(value or b"") <= self._limits.present.of(topic)

    async def _attempt(self, records: Sequence[KafkaRecord], timestamp: int) -> Written:
        delivery = Delivery(self, len(records))
        written = 0
        refused: list[int] = []
        write = self._output.write
        try:
            for topic, key, value in records:
                try:
                    write(topic, value, key, -1, delivery, None, timestamp)
                except NOT_TAKEN as fault:
                    if is_permanent(fault.args[0]):
                        refused.append(written)
                    else:
                        delivery.error = fault
                    delivery.left -= 1
                written += 1
        except BufferError:
            delivery.error = "the queue is full"
            delivery.left -= len(records) - written
        not_taken = len(refused)
        if delivery.left:
            self.outstanding += 1
            if self.outstanding == 1:
                self._pulse.start()
            await delivery.waiter
        if delivery.refused:
            places = {(topic, value): place for place, (topic, _, value) in enumerate(records)}
            refused += [
                places[message.topic() or "", message.value()] for message in delivery.refused
            ]
        return Written(delivery.error is None, sorted(refused), written > not_taken)

    def complete(self, delivery: Delivery) -> None:
        """Finish a delivery after its last delivery report, and wake its request."""
        if delivery.error is None and not delivery.refused:
            self.acknowledged_at = time.monotonic()
        self.outstanding -= 1
        if not self.outstanding:
            self._pulse.stop()
        if delivery is self._probe:
            self._probe = None
        elif not delivery.waiter.done():
            delivery.waiter.set_result(None)

    def close(self, seconds: float) -> int:
        """Stop probing and wait for acknowledgements; return how many did not come within `seconds`."""
        if self._timer is not None:
            self._timer.cancel()
        left = self._output.flush(seconds)
        self._pulse.close()
        return left

    def _send_probe(self) -> None:
        self._probe = Delivery(self, 1)
        try:
            now = int(time.time() * 1000)
            self._output.write(topics.PROBE, b"", b"", -1, self._probe, None, now)
        except BufferError:
            self._probe = None
            return
        self.outstanding += 1
        if self.outstanding == 1:
            self._pulse.start()
