"""The record limits in force: what the topics of the cluster really allow, read at start and then every half minute."""

import threading
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from weir.adapters.kafka.clients import client_options
from weir.core import topics
from weir.core.record_limits import RecordLimits
from weir.runtime import logs
from weir.settings.shared import KafkaSettings

EVERY_SECONDS = 30.0
REQUEST_SECONDS = 5.0
ALL_TOPICS = tuple(v for k, v in vars(topics).items() if k.isupper() and isinstance(v, str))

# The broker will never take the record, or the batch that it came in.
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
# Refused for what the record is, by the client or the broker; the same record will be refused again.
PERMANENT = TOO_LARGE | {KafkaError.INVALID_RECORD}
# Refused by a broker that answers, for a reason that may be the record, the topic or the broker itself.
# None of these passes by being tried again with new connections.
REFUSED = PERMANENT | {
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_REQUEST,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.UNKNOWN,
}


def read_limits(settings: KafkaSettings, names: Iterable[str] = ALL_TOPICS) -> RecordLimits:
    """Return the limits of the topics that exist. `KafkaException`: no broker says."""
    # One client for each call: it keeps threads and connections, and calls are rare.
    admin = AdminClient({**client_options(settings), "log_level": 0})
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    allowed = {}
    answers = admin.describe_configs(resources, request_timeout=REQUEST_SECONDS)
    for resource, future in answers.items():
        try:
            allowed[resource.name] = int(future.result()["max.message.bytes"].value)
        except KafkaException as fault:
            if fault.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return RecordLimits(allowed)


class LimitsFollower:
    """Keeps `present` up to date in a thread of its own; Weir's own limits until a broker has answered."""

    def __init__(
        self,
        settings: KafkaSettings,
        service: str,
        changed: Callable[[RecordLimits], None] | None = None,
    ) -> None:
        """`changed` is called, in whichever thread notices it, with limits that differ from those before."""
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
        """Read the limits now; return whether they differ from those before."""
        with self._lock:
            try:
                found = read_limits(self._settings)
            except KafkaException as fault:
                self._tell_unknown(str(fault.args[0]))
                return False
            self._fault = ""
            if found == self.present:
                return False
            self.present = found
        self._tell_low(found)
        if self._changed is not None:
            self._changed(found)
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(EVERY_SECONDS)

    def _tell_low(self, limits: RecordLimits) -> None:
        for topic, allowed, needed in limits.low():
            self._log.error(
                "a topic allows smaller records than Weir writes: run `weir topics apply`",
                topic=topic,
                max_message_bytes=allowed,
                needed=needed,
            )

    def _tell_unknown(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._log.warning("the topics' record limits cannot be read", fault=fault)
