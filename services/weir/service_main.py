"""Assemble and run a worker: settings, Kafka, state on disk, health, signals. Shared by the three workers."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from weir.adapters import usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.kafka.access import KafkaDeniedError, require_access
from weir.adapters.kafka.record_limits import LimitsFollower
from weir.adapters.kafka.schema_announcements import SchemasTopic
from weir.adapters.kafka.stream import KafkaStream, StreamOptions
from weir.adapters.rocksdb import RocksStores
from weir.core.batch import Step
from weir.core.stages import Stage
from weir.runtime import gc_tuning, health, logs, process
from weir.runtime.deciding import AccountEncoders
from weir.runtime.ports import Changelog, FencedError, StreamBrokenError
from weir.runtime.recovery_limit import RecoveryFailedError
from weir.runtime.signals import stop_on_signals
from weir.runtime.worker import Worker
from weir.settings.catalogue import require_known_variables
from weir.settings.environment import SettingsError, load
from weir.settings.shared import CommonSettings, KafkaSettings, WorkerSettings

EXIT_FOR_ANOTHER = os.EX_TEMPFAIL  # 75: tells the supervisor to start a new process


@dataclass(frozen=True)
class Environment:
    """The settings that every worker reads, and the topic of schemas that other versions announced."""

    common: CommonSettings
    kafka: KafkaSettings
    worker: WorkerSettings
    schemas: SchemasTopic


@dataclass(frozen=True)
class WorkerSpec:
    """What is specific to one worker: its stage, its step, and the changelog of its state."""

    stage: Stage
    step: Step
    changelog: Changelog
    batch_records: int
    kept_ms: int = 0  # how long a state entry is kept after its timestamp; 0: forever


def read_environment() -> Environment:
    """Read all settings; `SettingsError` lists the faults, or the unknown `WEIR_*` variables."""
    require_known_variables(os.environ)
    kafka = load(KafkaSettings, os.environ)
    return Environment(
        load(CommonSettings, os.environ),
        kafka,
        load(WorkerSettings, os.environ),
        SchemasTopic(kafka),
    )


def run_worker(environment: Environment, spec: WorkerSpec) -> None:
    """Run until SIGTERM or SIGINT; then commit the current batch and return."""
    stop = stop_on_signals()
    stage = spec.stage
    log = logs.get(stage.name)
    (topic,) = stage.reads
    options = StreamOptions(
        stage.name,
        topic,
        environment.worker.instance,
        writes=stage.writes,
        batch_records=spec.batch_records,
        transaction_seconds=environment.worker.transaction_seconds,
        session_seconds=environment.worker.session_seconds,
        fetch_kilobytes=environment.worker.worker_fetch_kilobytes,
    )
    folder = environment.common.data_dir / "state" / options.name
    limits = LimitsFollower(environment.kafka, stage.name)
    worker = Worker(
        spec.step,
        KafkaStream(environment.kafka, options, limits),
        RocksStores(folder, spec.kept_ms),
        spec.changelog,
        AccountEncoders(usage_records.encode_usage, worker_letters),
        limits,
    )
    stop_serving = health.serve(
        environment.common.host, environment.worker.metrics_port, worker.health
    )
    limits.start()
    gc_tuning.freeze()
    log.info("started", input=topic, instance=environment.worker.instance)
    try:
        worker.run(stop, environment.worker.worker_poll_seconds)
    finally:
        limits.stop()
        stop_serving()
    log.info("stopped")


def main(name: str, run: Callable[[Environment], None]) -> None:
    """Run a service. A fault in its settings or its surroundings ends the process with one clear message."""
    process.begin(name)
    try:
        environment = read_environment()
    except SettingsError as fault:
        sys.exit("\n".join(fault.faults))
    process.configure(environment.common, name)
    with ending_clearly(logs.get(name), environment.kafka.bootstrap()):
        require_access(environment.kafka)
        environment.schemas.join()
        run(environment)


@contextmanager
def ending_clearly(log: Any, bootstrap: str) -> Iterator[None]:
    """End the process with one log entry and an exit code if the block raises an exception."""
    try:
        yield
    except KafkaDeniedError as fault:
        log.error("cannot start", fault=str(fault))
        sys.exit(1)
    except StreamBrokenError as fault:
        log.error(
            "cannot start: Kafka does not answer, or topics are missing: run `weir topics apply`",
            bootstrap=bootstrap,
            fault=str(fault),
        )
        sys.exit(1)
    except RecoveryFailedError as fault:
        log.error(
            "ended: recovery inside the process failed, a supervisor should start a new one",
            fault=str(fault),
        )
        sys.exit(EXIT_FOR_ANOTHER)
    except FencedError as fault:
        log.error("ended: another process has taken this instance's slot", fault=str(fault))
        sys.exit(1)
    except Exception:  # the only catch-all: log the traceback, commit nothing more, exit
        log.exception("ended by a fault; nothing uncommitted counts")
        sys.exit(1)
