"""Turn a batch into records to write. Only a record that fails, or whose outputs are too large for
their topic, becomes a dead letter (docs/decisions/0015-faults.md)."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from weir.core import reasons, topics
from weir.core.batch import Batch, BatchResult, Changes, Load, Output, RefusedRecord, State, Step
from weir.core.record_limits import LimitsInForce
from weir.runtime import logs
from weir.runtime.narrowing import narrowed
from weir.runtime.ports import Changelog, FencedError, StreamBrokenError

LOGGED_CALLS = 4
T = TypeVar("T")
EncodeUsage = Callable[[str, Batch, BatchResult], list[Output]]
# The last argument: the size of the largest record that a dead letter stores whole.
EncodeDead = Callable[[str, Batch, BatchResult, int], list[Output]]


class AccountEncoders:
    """Encoders that turn a batch's usage and refusals into records."""

    def __init__(self, usage: EncodeUsage, dead: EncodeDead) -> None:
        self.usage = usage
        self.dead = dead


class Piece(NamedTuple):
    """Records of one partition, their result, and the records to write for them."""

    batch: Batch
    decided: BatchResult
    writes: list[tuple[str, int | None, list[Output]]]
    changelog: list[Output]


class RecordTooLargeError(Exception):
    """A record to write exceeds the limit of its topic."""


class StateError(Exception):
    """The store cannot be read. No record is to blame."""


# Passing faults: the step may also raise one when it has to ask a broker. The record waits.
PASSING = (StateError, StreamBrokenError, FencedError)


class Decider:
    """Runs the step and encodes its results. Pure except for `load` and logs."""

    def __init__(
        self, step: Step, accounts: AccountEncoders, changelog: Changelog, limits: LimitsInForce
    ) -> None:
        self._step = step
        self._accounts = accounts
        self._changelog = changelog
        self._limits = limits
        self._log = logs.get(step.name)

    def pieces(self, batch: Batch, load: Load) -> list[Piece]:
        """Return consecutive parts of the batch, usually one. `StateError`: nothing is decided."""
        known = _Overlay(load)
        pieces: list[Piece] = []
        faults: list[Exception] = []

        def attempt(part: Batch) -> bool:
            found = self._try(lambda: self._piece(part, self._step.process(part, known.load)))
            if isinstance(found, Exception):
                faults.append(found)
                return False
            known.add(found.decided.state_changes())
            pieces.append(found)
            return True

        for record in narrowed(batch, attempt):
            pieces.append(self.refused(record, *_verdict(faults[-1])))
        if faults:  # one log line, however many records are concerned
            self._log.error("some records cannot be processed", **_shown(faults[-1]))
        return pieces

    def refused(self, record: Batch, reason: str, detail: str) -> Piece:
        """Make a dead letter of a batch of one record."""
        found = self._try(lambda: self._piece(record, self._step.refuse(record, reason, detail)))
        if isinstance(found, Exception):  # not even the record's source can be read
            return self._piece(record, BatchResult(refusals=[RefusedRecord(0, reason, detail)]))
        return found

    def refreshed(self, partition: int, load: Load) -> Piece | None:
        """Return changes that have no input record, or None. After a fault the state stays as it was."""

        def refresh() -> Piece | None:
            decided = self._step.refresh(partition, _Overlay(load).load)
            return None if decided is None else self._piece(_nothing(partition), decided)

        found = self._try(refresh)
        if isinstance(found, Exception):
            self._log.error("a registry change cannot be applied", **_shown(found))
            return None
        return found

    def _try(self, decide: Callable[[], T]) -> T | Exception:
        """Return the decision, or the exception that it raised; raise those in PASSING."""
        try:
            return decide()
        except PASSING:
            raise
        except Exception as fault:  # noqa: BLE001 - a step may raise anything on some input
            self._step.forget()
            return fault

    def _piece(self, batch: Batch, decided: BatchResult) -> Piece:
        name = self._step.name
        decided.check(len(batch), self._step.writes)
        writes: list[tuple[str, int | None, list[Output]]] = [
            (topic, None, outputs) for topic, outputs in decided.outputs.items()
        ]
        writes += [(topic, batch.partition, outputs) for topic, outputs in decided.beside.items()]
        if decided.refusals:
            most = self._limits.present.letter
            writes.append((topics.DEAD, None, self._accounts.dead(name, batch, decided, most)))
        if decided.usage.counts:
            writes.append((topics.USAGE, None, self._accounts.usage(name, batch, decided)))
        changes = decided.state_changes()
        changelog = self._changelog.encode(changes) if changes else []
        self._check_sizes([*writes, (self._changelog.topic, None, changelog)])
        return Piece(batch, decided, writes, changelog)

    def _check_sizes(self, writes: Iterable[tuple[str, int | None, list[Output]]]) -> None:
        for topic, _, outputs in writes:
            # plain loops: this runs for every record
            size = max([len(key) + len(value) for key, value in outputs], default=0)
            if size > (most := self._limits.present.of(topic)):
                raise RecordTooLargeError(
                    f"{size:,} bytes for {topic}, which accepts at most {most:,}"
                )


class _Overlay:
    """A view of the state as if the added changes were already in the store."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._changes: dict[bytes, bytes | None] = {}

    def add(self, changes: Changes) -> None:
        self._changes.update(changes)

    def load(self, keys: Iterable[bytes]) -> State:
        keys = list(keys)  # outside `try`: an exception of the iterable is not the store's fault
        try:
            known = self._load(keys)
        except Exception as fault:
            raise StateError(f"{type(fault).__name__}: {fault}") from fault
        if self._changes:
            for key in keys:
                value = self._changes.get(key, b"")
                if value is None:
                    known.pop(key, None)
                elif key in self._changes:
                    known[key] = value
        return known


def _verdict(fault: Exception) -> tuple[str, str]:
    if isinstance(fault, RecordTooLargeError):
        return reasons.TOO_LARGE, str(fault)
    return reasons.STEP_FAILED, f"{type(fault).__name__}: {fault}"


def _shown(fault: Exception) -> dict[str, str]:
    """Return the fields that a log may show of a fault. Texts of foreign exceptions may quote the record."""
    if isinstance(fault, RecordTooLargeError):
        return {"fault": str(fault)}
    calls = traceback.extract_tb(fault.__traceback__)[-LOGGED_CALLS:]
    places = (f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in calls)
    return {"fault": type(fault).__name__, "at": ", ".join(places)}


def _nothing(partition: int) -> Batch:
    return Batch("", partition, [], [], [], [])


def merged(pieces: Iterable[Piece]) -> Iterator[tuple[int, Changes]]:
    """Yield (partition, changes); later changes replace earlier ones."""
    changes: dict[int, dict[bytes, bytes | None]] = {}
    for piece in pieces:
        changes.setdefault(piece.batch.partition, {}).update(piece.decided.state_changes())
    yield from changes.items()
