"""`python -m weir.sink`: run the sink, which inserts every record of every topic into ClickHouse exactly once."""

import os

from weir import service_main
from weir.adapters import avro
from weir.adapters.clickhouse.insert import ClickHouseRows
from weir.adapters.kafka.record_limits import LimitsFollower
from weir.adapters.kafka.sink_records import KafkaDeadLetters, KafkaRecords, RecordsOptions
from weir.core.stages import SINK
from weir.runtime import gc_tuning, health, logs
from weir.runtime.signals import stop_on_signals
from weir.settings.environment import load
from weir.settings.shared import ClickHouseSettings
from weir.settings.sink import SinkSettings
from weir.sink.inserts import ThreadedDeadLetters, ThreadedInserts
from weir.sink.known import KnownRecords
from weir.sink.loop import Options, Ports, Sink
from weir.sink.partition import Limits
from weir.sink.step import Routes

DRAIN_SECONDS = 10.0


def run(environment: service_main.Environment) -> None:
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
    gc_tuning.freeze()
    log.info("started", topics=len(SINK.reads), instance=environment.worker.instance)
    try:
        while not stop.is_set():
            sink.turn()
        if not sink.drain(DRAIN_SECONDS):
            log.warning("stopped before all rows were inserted; the next start inserts them")
    finally:
        limits.stop()
        inserts.close()
        dead_letters.close()
        records.close()
        rows.close()
        stop_serving()
    log.info("stopped")


def main() -> None:
    service_main.main(SINK.name, run)


if __name__ == "__main__":
    main()
