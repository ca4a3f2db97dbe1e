"""The steps of an erasure, in their order.

1. Wait until ClickHouse has everything that was accepted: then every link between the person's
   identifiers is known.
2. Set `until` to now. Tell identity to forget every identifier, and to drop records of them that it
   reads later but that were received by `until`. Delete the person's merges from `profiles`.
3. Wait as in 1 for what was still on its way. If that shows further identifiers, repeat from 2.
4. Count the rows; record who is erased and how many rows. From here an interrupted erasure only deletes.
5. Wait until the books have the counts, so that they know what is being erased. Delete from
   ClickHouse. Check that nothing is left.
6. Record that the erasure is finished, in place of the person's identifiers.

An interrupted erasure resumes at 1 or, once counted, at 5.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from weir.core import topics
from weir.core.identifiers import SEPARATOR, ProfileIds
from weir.core.stages import SINK
from weir.erasure.model import (
    LEFT_IN,
    OLD_PARTS_MS,
    ErasedPerson,
    ErasedPlace,
    ErasedRows,
    EraseFilter,
    Erasure,
    ErasureProgress,
    kept_until,
    subject_hash,
    topic_gone_by,
)
from weir.runtime.wait_settled import (
    PATIENT_LOOKS,
    Groups,
    NotSettledError,
    ServiceBacklog,
    wait_until_settled,
)

LOOK_SECONDS = 0.25
# Topics from which a replay may bring an event back to identity or to ClickHouse.
REPLAYED = (topics.ACCEPTED, topics.UNIQUE, topics.RESOLVED, topics.REJECTED, topics.DEAD)


class StoppedError(Exception):
    """The process is stopping; the next start resumes the erasure."""


class RowsLeftError(Exception):
    """Rows that were deleted are still there."""


class PersonLookup(Protocol):
    """`weir.erasure.person_rows.PersonRows`."""

    def whole(self, person: ErasedPerson) -> ErasedPerson: ...
    def holders(self, person: ErasedPerson) -> list[str]: ...
    def merges(self, person: ErasedPerson) -> list[tuple[str, str]]: ...


class PersonRowDeletes(Protocol):
    """`weir.erasure.clickhouse_deletes.PersonDeletes`."""

    def begin(
        self, person: ErasedPerson, until: int, workspaces: Mapping[str, str]
    ) -> list[str]: ...
    def recorded(self, erasure_id: str) -> int: ...
    def count(self) -> tuple[dict[str, int], list[ErasedRows]]: ...
    def delete(self) -> Iterable[str]: ...
    def remaining(self) -> dict[str, int]: ...
    def end(self) -> None: ...


class ErasureMessages(Protocol):
    """`weir.erasure.topic.ErasureWriter`."""

    def write(self, erasure: Erasure) -> None: ...
    def write_progress(self, erasure: Erasure) -> None: ...
    def write_erase_records(
        self, erasure: Erasure, identifiers: Iterable[str], kept_until: int
    ) -> None: ...
    def delete_merges(self, keys: Iterable[bytes]) -> None: ...


@dataclass(frozen=True)
class ErasureContext:
    """The dependencies of an `Eraser`."""

    known: PersonLookup
    rows: PersonRowDeletes
    writer: ErasureMessages
    groups: Groups
    configs: Mapping[str, Mapping[str, str]]  # by topic, as the brokers have them
    workspaces: Mapping[str, str]  # by declared source
    ids: ProfileIds  # how the installation mints profile ids
    secret: str
    now: Callable[[], int]  # epoch milliseconds
    wait: Callable[[float], bool]  # up to so many seconds; true: stop the process
    moved: Callable[[], None] = lambda: None  # called when a step begins or advances


class Eraser:
    """Carries out one erasure at a time. Safe to interrupt anywhere, and to repeat."""

    def __init__(self, context: ErasureContext) -> None:
        self._context = context

    def carry_out(self, erasure: Erasure) -> Erasure:
        """Erase the person. On return the person is gone, and the finished erasure is in the topic.

        `StoppedError` if the process is stopping; `NotSettledError` if a service makes no progress;
        `RowsLeftError` if rows remain; adapter errors pass through.
        """
        if erasure.state == "requested":
            erasure = self._resolve_person(erasure)
        person = ErasedPerson(
            erasure.workspace, frozenset(erasure.names), frozenset(erasure.profiles)
        )
        by_id = self._context.rows.begin(person, erasure.until, self._context.workspaces)
        if erasure.state == "requested":
            barred = EraseFilter.digests(person, by_id)
            erasure = self._count(msgspec.structs.replace(erasure, barred=barred))
        else:  # an earlier version of the sink may have skipped it: then the books lack the counts
            self._context.writer.write(erasure)
        return self._delete(erasure)

    def _resolve_person(self, erasure: Erasure) -> Erasure:
        context = self._context
        person = ErasedPerson.of(erasure.workspace, erasure.subject, context.ids)
        erasure = self._pass_all(msgspec.structs.replace(erasure, until=0))
        while True:
            known = context.known.whole(person)
            if known == person and erasure.until:
                return erasure
            person = known
            erasure = msgspec.structs.replace(
                erasure,
                until=context.now(),
                names=sorted(person.names),
                profiles=sorted(person.profiles),
            )
            kept = kept_until([context.configs[topic] for topic in REPLAYED], erasure.until)
            erasure = msgspec.structs.replace(erasure, barred_until=kept)
            identifiers = [*erasure.names, *context.known.holders(person)]
            context.writer.write_erase_records(erasure, identifiers, kept)
            keys = {_merge_key(person.workspace, *merge) for merge in context.known.merges(person)}
            context.writer.delete_merges(sorted(keys))
            erasure = self._pass_all(erasure)

    def _count(self, erasure: Erasure) -> Erasure:
        totals, counts = self._context.rows.count()
        names = len(erasure.names)
        now = self._context.now()
        places = [ErasedPlace(f"table {t}", rows, now + OLD_PARTS_MS) for t, rows in totals.items()]
        places.append(ErasedPlace("state identity", names, now))
        places += self._left_in_topics(erasure, now)
        erasure = msgspec.structs.replace(
            erasure.doing(ErasureProgress("waiting", SINK.name)),
            state="counted",
            places=places,
            counts=counts,
        )
        self._context.writer.write(erasure)
        return erasure

    def _delete(self, erasure: Erasure) -> Erasure:
        rows = self._context.rows
        for _ in range(PATIENT_LOOKS):
            if rows.recorded(erasure.erasure_id) >= len(erasure.counts):
                break
            self._wait(LOOK_SECONDS)
        else:
            raise NotSettledError("the sink has not stored the erasure's counts")
        for table in rows.delete():
            self._write_progress(erasure, ErasureProgress("deleting", table))
        if left := rows.remaining():
            raise RowsLeftError(f"rows are left: {left}")
        rows.end()
        hashed = subject_hash(
            self._context.secret, erasure.erasure_id, erasure.workspace, erasure.subject
        )
        now = self._context.now()
        for place in erasure.places:
            # the rows have left the active parts only now
            if place.place.startswith("table "):
                place.gone_by = now + OLD_PARTS_MS
        finished = erasure.finished(now, hashed)
        self._context.writer.write(finished)
        return finished

    def _pass_all(self, erasure: Erasure) -> Erasure:
        """Wait until everything accepted before the call is in ClickHouse or dropped."""

        def write_backlog(waiting: ServiceBacklog) -> None:
            nonlocal erasure
            erasure = self._write_progress(erasure, ErasureProgress("waiting", *waiting))

        wait_until_settled(self._context.groups, write_backlog, self._wait)
        return erasure

    def _wait(self, seconds: float) -> None:
        if self._context.wait(seconds):
            raise StoppedError

    def _write_progress(self, erasure: Erasure, progress: ErasureProgress) -> Erasure:
        """Write the progress for those who follow the erasure. Its state stays as last written."""
        if progress == erasure.progress:
            return erasure
        updated = erasure.doing(progress)
        self._context.writer.write_progress(updated)
        self._context.moved()
        return updated

    def _left_in_topics(self, erasure: Erasure, now: int) -> list[ErasedPlace]:
        configs = self._context.configs
        return [
            ErasedPlace(f"topic {topic}", 0, topic_gone_by(configs[topic], erasure.until, now))
            for topic in LEFT_IN
            if topic in configs
        ]


def _merge_key(workspace: str, from_profile: str, into_profile: str) -> bytes:
    """Return the key that identity gives the merge's record."""
    return SEPARATOR.join((workspace, "merge", from_profile, into_profile)).encode()
