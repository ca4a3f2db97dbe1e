"""Run `weir replay`: plan the topics and their order, put rows back, and return the counts."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from weir.adapters import avro
from weir.adapters.clickhouse.insert import ClickHouseRows
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.group_progress import GroupProgress
from weir.backfill.accepted import AcceptedEvents
from weir.backfill.exclusive_lease import ExclusiveLease
from weir.backfill.present import COMPACTED, SEGMENTS_LEFT, SIDE_TOPICS, StoredEventsQueries
from weir.backfill.rebuild import EventRange, NotStoredError, RebuildCounts, Rebuilder, RowInserter
from weir.backfill.redecide import DedupReplay, IdentityReplay
from weir.backfill.scratch import Scratch, scratch
from weir.backfill.settled_reader import Chunk, OffsetRange, SettledReader
from weir.core import topics
from weir.core.identifiers import LEGACY_IDS
from weir.core.registry import MAX_DEDUP_WINDOW_SECONDS
from weir.core.stages import SINK
from weir.erasure.erase_filter import ErasedPeople
from weir.identity.stage import IdentityStage
from weir.redelivery.replay import Pace
from weir.redelivery.writer import read_ledger
from weir.registry.follower import read_sources_and_keys
from weir.registry.profile_id_salt import read_profile_ids
from weir.runtime.folder_lock import FolderInUseError
from weir.runtime.sink_ports import Insert, WarehouseAwayError
from weir.runtime.wait_settled import Ends, NotSettledError, ServiceBacklog, wait_until_settled
from weir.settings.shared import ClickHouseSettings, KafkaSettings
from weir.settings.sink import SinkSettings
from weir.sink.step import Routes

CLOCKS_MS = 600_000  # most difference between the clocks of gateways and brokers
WINDOW_MS = MAX_DEDUP_WINDOW_SECONDS * 1_000


@dataclass(frozen=True)
class BackfillOptions:
    """The options of a run: what to put back, and how."""

    part: EventRange
    from_accepted: bool
    events_only: bool
    rate: float
    dry_run: bool


@dataclass
class BackfillResult:
    """The results by topic, in the order in which the topics were read."""

    accounts: dict[str, RebuildCounts] = field(default_factory=dict)
    more: int = 0  # events that sessions count but that have no row


@dataclass(frozen=True)
class BackfillTarget:
    """The systems and folders that a run reads and writes."""

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    sink: SinkSettings
    data_dir: Path


class ProgressReport(Protocol):
    """A receiver of the run's progress."""

    def show_step(self, doing: str) -> None: ...

    def begin(self, total: int) -> None: ...

    def advance(self, more: int) -> None: ...


class GuardedRows:
    """A `RowInserter` that inserts only while no later replay has begun; then `ReplacedError`."""

    def __init__(self, rows: RowInserter, turn: ExclusiveLease) -> None:
        self._rows = rows
        self._turn = turn

    def insert(self, insert: Insert) -> None:
        self._turn.require()
        self._rows.insert(insert)


def run(asked: BackfillOptions, where: BackfillTarget, report: ProgressReport) -> BackfillResult:
    """Put back the missing rows. `RefusedError` says why a run is not possible; adapter errors pass through."""
    kafka, clickhouse, sink = where.kafka, where.clickhouse, where.sink
    with (
        _scratch(asked, where.data_dir) as made,
        closing(SettledReader(kafka, SINK.group)) as history,
        closing(
            ClickHouseRows(clickhouse, sink.sink_insert_timeout, 1, sink.sink_compress)
        ) as rows,
    ):
        # read the ledger first: the sink inserts the row of a letter that is sent again after that
        recovered = read_ledger(kafka) if asked.from_accepted else set()
        ends = _settled(kafka, report) if asked.from_accepted else {}
        warehouse = StoredEventsQueries(
            ClickHouse(clickhouse),
            clickhouse.clickhouse_database,
            lambda: ErasedPeople(kafka).has,
            recovered,
        )
        done = BackfillResult(more=warehouse.events_without_rows())
        if done.more and not asked.dry_run:
            raise RefusedError(SEGMENTS_LEFT.format(more=done.more))
        guarded = rows if asked.dry_run else GuardedRows(rows, ExclusiveLease(kafka))
        rebuilding = Rebuilder(
            warehouse, guarded, Routes(avro.name_of), Pace(asked.rate), asked.dry_run
        )
        topic_by_topic = Backfill(asked.part, kafka, history, warehouse, rebuilding, report)
        try:
            done.accounts = topic_by_topic.carry_out(_plan(asked, history, ends), made)
        except WarehouseAwayError as fault:
            raise UnavailableError(f"ClickHouse does not accept rows now: {fault}.") from None
        except NotStoredError as fault:
            raise RefusedError(str(fault)) from None
    return done


def _plan(
    asked: BackfillOptions, history: SettledReader, ends: Ends
) -> dict[str, list[OffsetRange]]:
    """Return the ranges to read by topic, in reading order.

    Dead letters come first, so that dead events are known. `events.accepted` comes last, so that only
    events that no other topic restores are left.
    """
    since = asked.part.start - CLOCKS_MS
    side = () if asked.events_only else SIDE_TOPICS
    plan = {name: history.spans(name, None if name in COMPACTED else since) for name in side}
    plan[topics.RESOLVED] = history.spans(topics.RESOLVED, since)
    if asked.from_accepted:
        # dedup's decisions need the events of the longest window before the range
        plan[topics.ACCEPTED] = history.spans(topics.ACCEPTED, since - WINDOW_MS, ends)
    return plan


class Backfill:
    """A run over the topics of a plan, one after the other."""

    def __init__(
        self,
        part: EventRange,
        kafka: KafkaSettings,
        history: SettledReader,
        warehouse: StoredEventsQueries,
        rebuilding: Rebuilder,
        report: ProgressReport,
    ) -> None:
        self._part = part
        self._kafka = kafka
        self._history = history
        self._warehouse = warehouse
        self._rebuilding = rebuilding
        self._report = report

    def carry_out(
        self, plan: Mapping[str, list[OffsetRange]], made: Scratch | None
    ) -> dict[str, RebuildCounts]:
        """Put the plan's records back; return the counts by topic.

        `made`: the scratch stores, needed if the plan has `events.accepted`.
        """
        self._report.begin(sum(len(span) for spans in plan.values() for span in spans))
        accounts: dict[str, RebuildCounts] = {}
        for name, spans in plan.items():
            account = accounts[name] = RebuildCounts()
            if made is not None and name == topics.ACCEPTED:
                self._put_accepted(spans, made, account)
                continue
            for span in spans:
                for chunk in self._chunks(span):
                    if name == topics.RESOLVED:
                        self._rebuilding.put_events(span, chunk, self._part, account)
                    else:
                        self._rebuilding.put_records(span, chunk, account)
        return accounts

    def _put_accepted(
        self, spans: list[OffsetRange], made: Scratch, account: RebuildCounts
    ) -> None:
        resolving = self._resolving(made)
        for span in spans:
            with made.seen() as seen:
                events = AcceptedEvents(
                    span.place,
                    self._warehouse,
                    self._rebuilding.present,
                    DedupReplay(seen),
                    resolving,
                )
                for chunk in self._chunks(span):
                    missing = events.missing(chunk, self._part, account)
                    if missing.records.offsets:
                        self._rebuilding.put_events(span, missing, self._part, account)

    def _resolving(self, made: Scratch) -> IdentityReplay:
        """Return identity's decisions. People and sources are read on first use: usually nothing is missing."""
        sources = cache(lambda: read_sources_and_keys(self._kafka)[0])
        people = cache(lambda: made.people(self._history.table(topics.PROFILES)))
        ids = read_profile_ids(self._kafka) or LEGACY_IDS
        stage = IdentityStage(
            lambda source: sources().mappings_of(source),
            ids,
            lambda source: sources().blocked_of(source),
            lambda source: sources().session_gap_of(source),
        )
        return IdentityReplay(stage, people)

    def _chunks(self, span: OffsetRange) -> Iterator[Chunk]:
        """Yield the chunks; report each chunk after the caller has processed it."""
        self._report.show_step(span.place.topic)
        at = span.start
        for chunk in self._history.chunks(span):
            yield chunk
            end = min(chunk.end, span.end)
            self._report.advance(end - at)
            at = end
        self._report.advance(span.end - at)


@contextmanager
def _scratch(asked: BackfillOptions, data_dir: Path) -> Iterator[Scratch | None]:
    """Yield the scratch stores, or None if nothing has to be decided again. `RefusedError` if they are in use.

    Enter it before anything else: then a run that is refused here has not ended another run.
    """
    if not asked.from_accepted:
        yield None
        return
    try:
        with scratch(data_dir) as made:
            yield made
    except FolderInUseError as fault:
        raise RefusedError(f"Another replay is running: {fault}") from None


def _settled(kafka: KafkaSettings, report: ProgressReport) -> Ends:
    def show_backlog(waiting: ServiceBacklog) -> None:
        report.show_step(f"waiting for {waiting.service}: {waiting.records:,} records to go")

    admin = KafkaAdmin(kafka)
    try:
        return wait_until_settled(GroupProgress(admin), show_backlog, time.sleep)
    except NotSettledError as fault:
        raise RefusedError(
            f"{fault} Events that are not decided yet would count as lost: run this again later."
        ) from None
    finally:
        admin.close()
