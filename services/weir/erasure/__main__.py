"""`python -m weir.erasure`: carries out erasures, one after the other, the oldest first."""

import os
import threading
import time

import msgspec

from weir import service_main
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.errors import NotReachedError, RefusedError
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
PENDING = "erasures"  # they wait in one queue
POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 3_600  # for a statement that writes large parts anew


class Service:
    """Works off what is pending until it is told to stop; while something is away it tries again."""

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
        """`FencedError`: another eraser has taken over."""
        while not self._stop.is_set():
            try:
                self._follow()
            except StoppedError:
                return
            except (NotReachedError, RefusedError, RowsLeftError) as fault:
                self.health.unready(str(fault))
                self._log.warning("trying again", fault=str(fault))
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
        """One that cannot be carried out does not keep the next ones waiting; it is tried again."""
        try:
            self._carry_out(erasure, writer)
        except (NotSettledError, RefusedError, RowsLeftError) as fault:
            self.health.unready(f"erasure {erasure.erasure_id}: {fault}")
            self._log.error("not carried out", erasure=erasure.erasure_id, fault=str(fault))
            self._stop.wait(RETRY_SECONDS)
        except (FencedError, NotReachedError, StoppedError):
            raise  # the next ones would fare no better
        except Exception as fault:  # noqa: BLE001 - foreseen by nobody, so most likely this one's own
            self.health.unready(f"erasure {erasure.erasure_id}: {type(fault).__name__}: {fault}")
            self._log.exception("not carried out", erasure=erasure.erasure_id)
            self._stop.wait(RETRY_SECONDS)
        else:
            self.health.ready()

    def _carry_out(self, erasure: Erasure, writer: ErasureWriter) -> None:
        """What it needs besides is asked for anew each time: erasures are rare."""
        self._log.info("begins", erasure=erasure.erasure_id, state=erasure.state)
        sources, _ = read_sources_and_keys(self._kafka)
        clickhouse = ClickHouse(self._clickhouse, TIMEOUT_SECONDS)
        database = self._clickhouse.clickhouse_database
        admin = KafkaAdmin(self._kafka)
        try:
            world = ErasureContext(
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
            finished = Eraser(world).carry_out(erasure)
        finally:
            admin.close()
        self._progress.moved([PENDING])
        rows = sum(place.rows for place in finished.places)
        self._log.info("finished", erasure=erasure.erasure_id, rows=rows)


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
