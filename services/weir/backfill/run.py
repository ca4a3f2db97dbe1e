"""One run of `weir replay`: which topics, in which order, and what it came to."""

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
from weir.adapters.errors import NotReachedError, RefusedError
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
from weir.runtime.wait_settled import Ends, NotSettledError, ServiceBacklog, settle
from weir.settings.shared import ClickHouseSettings, KafkaSettings
from weir.settings.sink import SinkSettings
from weir.sink.step import Routes

CLOCKS_MS = 600_000  # by which the clocks of gateways and brokers may differ
WINDOW_MS = MAX_DEDUP_WINDOW_SECONDS * 1_000


@dataclass(frozen=True)
class BackfillOptions:
    """What is to be put back, and how."""

    part: EventRange
    from_accepted: bool
    events_only: bool
    rate: float
    dry_run: bool


@dataclass
class BackfillResult:
    """What became of each topic's records, in the order in which they were read."""

    accounts: dict[str, RebuildCounts] = field(default_factory=dict)
    more: int = 0  # events that visits count and that have no row


@dataclass(frozen=True)
class BackfillTarget:
    """What a run reads and writes."""

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    sink: SinkSettings
    data_dir: Path


class ProgressReport(Protocol):
    """Who is told how far the run is."""

    def tell(self, doing: str) -> None: ...

    def begin(self, total: int) -> None: ...

    def advance(self, more: int) -> None: ...


class GuardedRows:
    """`RowInserter`, as long as no later replay has begun."""

    def __init__(self, rows: RowInserter, turn: ExclusiveLease) -> None:
        self._rows = rows
        self._turn = turn

    def insert(self, insert: Insert) -> None:
        self._turn.require()
        self._rows.insert(insert)


def run(asked: BackfillOptions, where: BackfillTarget, report: ProgressReport) -> BackfillResult:
    """Put back what is missing. `RefusedError` says why a run cannot be; adapters' errors pass through."""
    kafka, clickhouse, sink = where.kafka, where.clickhouse, where.sink
    with (
        _scratch(asked, where.data_dir) as made,
        closing(SettledReader(kafka, SINK.group)) as history,
        closing(
            ClickHouseRows(clickhouse, sink.sink_insert_timeout, 1, sink.sink_compress)
        ) as rows,
    ):
        # in this order: a letter that is sent in again after the ledger was read is left to the sink
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
            raise NotReachedError(f"ClickHouse takes no rows now: {fault}.") from None
        except NotStoredError as fault:
            raise RefusedError(str(fault)) from None
    return done


def _plan(
    asked: BackfillOptions, history: SettledReader, ends: Ends
) -> dict[str, list[OffsetRange]]:
    """What died comes first, so that it is known; what was only accepted last, so that nothing else is left."""
    since = asked.part.start - CLOCKS_MS
    side = () if asked.events_only else SIDE_TOPICS
    plan = {name: history.spans(name, None if name in COMPACTED else since) for name in side}
    plan[topics.RESOLVED] = history.spans(topics.RESOLVED, since)
    if asked.from_accepted:
        # a repeat is told from a first occurrence by what came within the longest window before
        plan[topics.ACCEPTED] = history.spans(topics.ACCEPTED, since - WINDOW_MS, ends)
    return plan


class Backfill:
    """Takes a plan's topics one after the other."""

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
        """`made`: where the plan has `events.accepted`, to decide about it."""
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
        """Neither people nor sources are read before they are asked for: most often nothing is missing."""
        sources = cache(lambda: read_sources_and_keys(self._kafka)[0])
        people = cache(lambda: made.people(self._history.table(topics.PROFILES)))
        ids = read_profile_ids(self._kafka) or LEGACY_IDS
        stage = IdentityStage(
            lambda source: sources().mappings_of(source),
            ids,
            lambda source: sources().blocked_of(source),
        )
        return IdentityReplay(stage, people)

    def _chunks(self, span: OffsetRange) -> Iterator[Chunk]:
        """The report is on what the caller has dealt with."""
        self._report.tell(span.place.topic)
        at = span.start
        for chunk in self._history.chunks(span):
            yield chunk
            end = min(chunk.end, span.end)
            self._report.advance(end - at)
            at = end
        self._report.advance(span.end - at)


@contextmanager
def _scratch(asked: BackfillOptions, data_dir: Path) -> Iterator[Scratch | None]:
    """None: there is nothing to decide. First of all, so that whom it refuses ends nobody else's run."""
    if not asked.from_accepted:
        yield None
        return
    try:
        with scratch(data_dir) as made:
            yield made
    except FolderInUseError as fault:
        raise RefusedError(f"Another replay is at work: {fault}") from None


def _settled(kafka: KafkaSettings, report: ProgressReport) -> Ends:
    def tell(waiting: ServiceBacklog) -> None:
        report.tell(f"waits for {waiting.service}: {waiting.records:,} records to go")

    admin = KafkaAdmin(kafka)
    try:
        return settle(GroupProgress(admin), tell, time.sleep)
    except NotSettledError as fault:
        raise RefusedError(
            f"{fault} What is yet to be decided would be taken for lost: run this again then."
        ) from None
    finally:
        admin.close()
