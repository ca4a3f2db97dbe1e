"""The eraser service (`python -m weir.erasure`): carries out erasures one at a time, the oldest first."""

import os
import threading
import time

import msgspec

from weir import service_main
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.group_progress import GroupProgress
from weir.core.identifiers import LEGACY_IDS
from weir.erasure.clickhouse_deletes import PersonDeletes
from weir.erasure.model import Erasure
from weir.erasure.person_rows import PersonRows
from weir.erasure.topic import ErasureFollower, ErasureWriter
from weir.erasure.workflow import Eraser, ErasureContext, RowsLeftError, StoppedError
from weir.registry.follower import read_sources_and_keys
from weir.registry.profile_id_salt import read_profile_ids
from weir.runtime import health, logs
from weir.runtime.ports import FencedError
from weir.runtime.signals import stop_on_signals
from weir.runtime.stall_watch import StallWatch
from weir.runtime.wait_settled import NotSettledError
from weir.settings.environment import load
from weir.settings.erasure import EraserSettings
from weir.settings.shared import ClickHouseSettings, MigrationSettings

NAME = "eraser"
PENDING = "erasures"  # their only queue, as the stall watch names it
POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 3_600  # for a statement that rewrites large parts


class Service:
    """A loop that carries out pending erasures until stopped. It retries while Kafka or ClickHouse is unavailable."""

    def __init__(self, environment: service_main.Environment, stop: threading.Event) -> None:
        self._kafka = environment.kafka
        self._clickhouse = load(ClickHouseSettings, os.environ)
        self._settings = load(EraserSettings, os.environ)
        self._cluster = load(MigrationSettings, os.environ).clickhouse_cluster
        self._stop = stop
        self._log = logs.get(NAME)
        self._progress = StallWatch(NAME, "erasures")
        self.health = health.Health(self._progress)

    def run(self) -> None:
        """Run until stopped. `FencedError` if another eraser has taken over."""
        while not self._stop.is_set():
            try:
                self._follow()
            except StoppedError:
                return
            except (UnavailableError, RefusedError, RowsLeftError) as fault:
                self.health.unready(str(fault))
                self._log.warning("erasures paused, retrying", fault=str(fault))
                self._stop.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        writer = ErasureWriter(self._kafka)
        follower = ErasureFollower(self._kafka)
        try:
            self.health.ready()
            while not self._stop.is_set():
                pending = follower.erasures.pending()
                self._progress.waits({PENDING: len(pending)})
                for erasure in pending:
                    self._try(erasure, writer)
                for erasure in follower.erasures.outdated(int(time.time() * 1_000)):
                    if erasure.state == "finished":
                        writer.write(msgspec.structs.replace(erasure, barred=b""))
                follower.poll(POLL_SECONDS)
        finally:
            follower.close()

    def _try(self, erasure: Erasure, writer: ErasureWriter) -> None:
        """Carry out one erasure. A failure does not block the next erasures; the failed one is tried again later."""
        try:
            self._carry_out(erasure, writer)
        except (NotSettledError, RefusedError, RowsLeftError) as fault:
            self.health.unready(f"erasure {erasure.erasure_id}: {fault}")
            self._log.error("erasure not carried out", erasure=erasure.erasure_id, fault=str(fault))
            self._stop.wait(RETRY_SECONDS)
        except (FencedError, UnavailableError, StoppedError):
            raise  # the next erasures would fail as well
        except Exception as fault:  # noqa: BLE001 - unforeseen, most likely caused by this erasure
            self.health.unready(f"erasure {erasure.erasure_id}: {type(fault).__name__}: {fault}")
            self._log.exception("erasure not carried out", erasure=erasure.erasure_id)
            self._stop.wait(RETRY_SECONDS)
        else:
            self.health.ready()

    def _carry_out(self, erasure: Erasure, writer: ErasureWriter) -> None:
        """Carry out one erasure. Read sources and topic configurations anew each time: erasures are rare."""
        self._log.info("erasure started", erasure=erasure.erasure_id, state=erasure.state)
        sources, _ = read_sources_and_keys(self._kafka)
        clickhouse = ClickHouse(self._clickhouse, TIMEOUT_SECONDS)
        database = self._clickhouse.clickhouse_database
        admin = KafkaAdmin(self._kafka)
        try:
            context = ErasureContext(
                PersonRows(clickhouse, database),
                PersonDeletes(clickhouse, database, self._cluster),
                writer,
                GroupProgress(admin),
                {name: topic.config for name, topic in admin.topics().items()},
                {source.id: source.workspace for source in sources.by_id.values()},
                read_profile_ids(self._kafka) or LEGACY_IDS,
                self._settings.erasure_key,
                lambda: int(time.time() * 1_000),
                self._stop.wait,
                lambda: self._progress.moved([PENDING]),
            )
            finished = Eraser(context).carry_out(erasure)
        finally:
            admin.close()
        self._progress.moved([PENDING])
        rows = sum(place.rows for place in finished.places)
        self._log.info("erasure finished", erasure=erasure.erasure_id, rows=rows)


def run(environment: service_main.Environment) -> None:
    stop = stop_on_signals()
    service = Service(environment, stop)
    stop_serving = health.serve(
        environment.common.host, environment.worker.metrics_port, service.health
    )
    logs.get(NAME).info("started")
    try:
        service.run()
    finally:
        stop_serving()
    logs.get(NAME).info("stopped")


def main() -> None:
    service_main.main(NAME, run)


if __name__ == "__main__":
    main()
