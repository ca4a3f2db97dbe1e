"""Record limits in force: what the cluster's topics actually allow, read at the start and every 30 seconds."""

import threading
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType

from weir.adapters.kafka.clients import admin_client, client_options, is_unknown_topic
from weir.core import topics
from weir.core.record_limits import RecordLimits
from weir.runtime import logs
from weir.settings.shared import KafkaSettings

EVERY_SECONDS = 30.0
REQUEST_SECONDS = 5.0
ALL_TOPICS = tuple(v for k, v in vars(topics).items() if k.isupper() and isinstance(v, str))

# The broker will never take the record, or the batch that contains it.
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
# The client or the broker refuses the record itself; it would refuse the same record again.
PERMANENT = TOO_LARGE | {KafkaError.INVALID_RECORD}
# A broker answers and refuses; the reason may be the record, the topic or the broker itself.
# A retry with new connections helps with none of these.
REFUSED = PERMANENT | {
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_REQUEST,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.UNKNOWN,
}


def read_limits(settings: KafkaSettings, names: Iterable[str] = ALL_TOPICS) -> RecordLimits:
    """Return the limits of the topics that exist. `KafkaException` if no broker returns them."""
    # A new client for each call: a client holds threads and connections, and calls are rare.
    admin = admin_client({**client_options(settings), "log_level": 0})
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    allowed = {}
    answers = admin.describe_configs(resources, request_timeout=REQUEST_SECONDS)
    for resource, future in answers.items():
        try:
            allowed[resource.name] = int(future.result()["max.message.bytes"].value)
        except KafkaException as fault:
            if not is_unknown_topic(fault):
                raise
    return RecordLimits(allowed)


class LimitsFollower:
    """Keeps `present` up to date in a separate thread; until a broker has answered, it has Weir's own limits."""

    def __init__(
        self,
        settings: KafkaSettings,
        service: str,
        changed: Callable[[RecordLimits], None] | None = None,
    ) -> None:
        """`changed` is called with new limits that differ from the last ones, in the thread that notices it."""
        self.present = RecordLimits()
        self._settings = settings
        self._changed = changed
        self._log = logs.get(service)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name="record-limits", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def refresh(self) -> bool:
        """Read the limits now; return whether they have changed."""
        with self._lock:
            try:
                found = read_limits(self._settings)
            except KafkaException as fault:
                self._log_unknown(str(fault.args[0]))
                return False
            self._fault = ""
            if found == self.present:
                return False
            self.present = found
        self._log_low(found)
        if self._changed is not None:
            self._changed(found)
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(EVERY_SECONDS)

    def _log_low(self, limits: RecordLimits) -> None:
        for topic, allowed, needed in limits.low():
            self._log.error(
                "a topic allows smaller records than Weir writes: run `weir topics apply`",
                topic=topic,
                max_message_bytes=allowed,
                needed=needed,
            )

    def _log_unknown(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._log.warning("the topics' record limits cannot be read", fault=fault)
