"""Looks for identifiers in topics: in the latest record of each key, or in all records that are there."""

from confluent_kafka import KafkaException

from weir.adapters.errors import NotReachedError
from weir.adapters.kafka.clients import TableReader
from weir.erasure.identifier_scan import IdentifierScan
from weir.settings.shared import KafkaSettings

REST_MS = 100


def count_traces(
    settings: KafkaSettings, topic: str, traces: IdentifierScan, seconds: float, *, compacted: bool
) -> int:
    """Keys whose latest record has a trace, in key or value; of a topic that is not compacted, records."""
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
        raise NotReachedError(f"Kafka: {fault.args[0]}.") from None
    finally:
        reader.close()
    return len(found) if compacted else number
