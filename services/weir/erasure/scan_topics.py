"""Search topics for identifiers: the latest record of each key, or all records."""

from confluent_kafka import KafkaException

from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import TableReader
from weir.erasure.identifier_scan import IdentifierScan
from weir.settings.shared import KafkaSettings

REST_MS = 100


def count_traces(
    settings: KafkaSettings, topic: str, traces: IdentifierScan, seconds: float, *, compacted: bool
) -> int:
    """Return how many records of a topic have a trace of an identifier in key or value.

    Of a compacted topic, only the latest record of each key counts. `UnavailableError` if Kafka does not
    answer, or does not deliver all records within `seconds`.
    """
    found: set[bytes] = set()
    number = 0

    def look(key: bytes, value: bytes | None) -> None:
        nonlocal number
        has = value is not None and (traces.anywhere(key) or traces.anywhere(value))
        if not compacted:
            number += has
        elif has:
            found.add(key)
        else:
            found.discard(key)

    reader = TableReader(settings, topic, REST_MS)
    try:
        reader.read_all(look, seconds)
    except KafkaException as fault:
        raise UnavailableError(f"Kafka: {fault.args[0]}.") from None
    finally:
        reader.close()
    return len(found) if compacted else number
