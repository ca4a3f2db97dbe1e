"""`python -m services.sink`: every record of every topic into ClickHouse, exactly once."""

import os

from services import wiring
from services.core.stages import SINK
from services.edge import avro
from services.edge.clickhouse import ClickHouseRows
from services.edge.kafka_limits import LimitsFollower
from services.edge.kafka_sink import KafkaDeadLetters, KafkaRecords, RecordsOptions
from services.runtime import collector, health, logs
from services.runtime.config import ClickHouseSettings
from services.runtime.settings import load
from services.runtime.stopping import stop_on_signals
from services.sink.config import SinkSettings
from services.sink.inserts import ThreadedDeadLetters, ThreadedInserts
from services.sink.known import KnownRecords
from services.sink.loop import Options, Ports, Sink
from services.sink.partition import Limits
from services.sink.step import Routes

DRAIN_SECONDS = 10.0


def run(environment: wiring.Environment) -> None:
    settings = load(SinkSettings, os.environ)
    clickhouse = load(ClickHouseSettings, os.environ)
    stop = stop_on_signals()
    log = logs.get(SINK.name)
    rows = ClickHouseRows(
        clickhouse,
        settings.sink_insert_timeout,
        settings.sink_insert_threads,
        settings.sink_compress,
        settings.sink_insert_memory,
    )
    inserts = ThreadedInserts(rows, settings.sink_insert_threads)
    kafka_records = KafkaRecords(
        environment.kafka,
        RecordsOptions(
            SINK.reads,
            environment.worker.instance,
            fetch_kilobytes=environment.worker.worker_fetch_kilobytes,
            session_seconds=environment.worker.session_seconds,
        ),
    )
    limits = LimitsFollower(environment.kafka, SINK.name)
    records = KnownRecords(kafka_records, environment.schemas.know)
    dead_letters = ThreadedDeadLetters(KafkaDeadLetters(environment.kafka, limits))
    sink = Sink(
        Ports(records, inserts, dead_letters),
        Routes(avro.name_of),
        Options(
            Limits(
                settings.sink_flush_seconds,
                settings.sink_flush_rows,
                settings.sink_flush_bytes,
                settings.sink_flush_expanded_bytes,
            ),
            settings.sink_buffer_bytes,
            settings.sink_retry_seconds,
            settings.sink_side_flush_seconds,
            settings.sink_insert_timeout,
            settings.sink_insert_threads,
        ),
        log,
    )
    stop_serving = health.serve(
        environment.common.host, environment.worker.metrics_port, sink.health
    )
    limits.start()
    collector.spare()
    log.info("started", topics=len(SINK.reads), instance=environment.worker.instance)
    try:
        while not stop.is_set():
            sink.turn()
        if not sink.drain(DRAIN_SECONDS):
            log.warning("stopped with rows not in yet; they go in at the next start")
    finally:
        limits.stop()
        inserts.close()
        dead_letters.close()
        records.close()
        rows.close()
        stop_serving()
    log.info("stopped")


def main() -> None:
    wiring.main(SINK.name, run)


if __name__ == "__main__":
    main()
