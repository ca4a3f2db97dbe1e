"""Replay letters: send each letter again, once, unless it was recovered, cannot be sent or is stored already."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from weir.redelivery.model import Identity, Recovery, ledger_key
from weir.redelivery.plans import REFUSED_AGAIN, Letter, NotSendable, Plan, RejectedAgain
from weir.redelivery.queries import LetterTables
from weir.redelivery.writer import Recoveries

ERASED = "its person was erased after the letter was listed"
SENT_NOW = "sent just now"
TOGETHER = 200  # most letters in one transaction
SHOWN = 5  # examples of each reason

L = TypeVar("L", bound=Letter)


class Pace:
    """A limit of `rate` items a second on average; 0: no limit."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._next = time.monotonic()

    def keep(self, count: int) -> None:
        """Wait until `count` more items may be processed. Call it before processing them."""
        if not self.rate:
            return
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + count / self.rate


@dataclass
class RedeliveryCounts:
    """The results of a replay."""

    replayed: int = 0
    edited: int = 0
    recovered: int = 0  # skipped: an earlier replay sent them
    stored: dict[str, list[str]] = field(default_factory=dict)  # letter -> ids of stored events
    # the same for letters of which some events were stored and the others were sent
    in_part: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, tuple[RejectedAgain, ...]] = field(default_factory=dict)
    unfit: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def looked_at(self) -> int:
        left = len(self.stored) + len(self.refused) + self.unfit.total()
        return self.replayed + self.recovered + left

    @property
    def is_done(self) -> bool:
        """Whether no letter is left that could not be sent."""
        return not self.refused and not self.unfit

    def keep(self, letter: str, unfit: NotSendable) -> None:
        if unfit.reason == REFUSED_AGAIN:
            self.refused[letter] = unfit.refused
            return
        self.unfit[unfit.reason] += 1
        examples = self.examples.setdefault(unfit.reason, [])
        if len(examples) < SHOWN:
            examples.append(letter)


class Redelivery(Generic[L]):
    """One replay. `recoveries` None: a dry run, which writes nothing.

    `erased`: returns a check, current at the call, whether a record is an erased person's.
    """

    def __init__(
        self,
        tables: LetterTables,
        ledger: set[bytes],
        recoveries: Recoveries | None,
        erased: Callable[[], Callable[[bytes], bool]],
        plan: Callable[[L], Plan | NotSendable],
        pace: Pace,
        limit: int | None,
    ) -> None:
        self.tally = RedeliveryCounts()
        self._tables = tables
        self._ledger = ledger
        self._recoveries = recoveries
        self._erased = erased
        self._plan = plan
        self._pace = pace
        self._limit = limit
        # (source, idempotency key) of the events that this replay has sent
        self._sent: set[tuple[str, str]] = set()

    def run(self, pages: Iterable[list[L]], progress: Callable[[RedeliveryCounts], None]) -> None:
        """Send the letters until none is left, or `limit` were sent. Adapter errors pass through."""
        together = min(TOGETHER, max(1, int(self._pace.rate))) if self._pace.rate else TOGETHER
        for page in pages:
            for start in range(0, len(page), together):
                self._replay(page[start : start + together])
                progress(self.tally)
                if self._limit is not None and self.tally.replayed >= self._limit:
                    return

    def _replay(self, letters: Sequence[L]) -> None:
        fit: list[tuple[L, Plan]] = []
        for letter in letters:
            if ledger_key(letter.kind, letter.name, letter.step) in self._ledger:
                self.tally.recovered += 1
                continue
            plan = self._plan(letter)
            if isinstance(plan, Plan):
                fit.append((letter, plan))
            else:
                self.tally.keep(letter.name, plan)
        is_erased = self._erased() if fit else None
        stored = self._tables.stored({i for _, plan in fit for i in plan.identities})
        sent: list[tuple[L, Plan]] = []
        for letter, plan in fit:
            if is_erased is not None and any(is_erased(part.write.value) for part in plan.parts):
                self.tally.keep(letter.name, NotSendable(ERASED))
                continue
            there = self._there(plan, stored)
            left = [part for part in plan.parts if part.identity not in there]
            if not left:
                self.tally.stored[letter.name] = sorted(set(there.values()))
            elif self._limit is None or self.tally.replayed + len(sent) < self._limit:
                sent.append((letter, plan._replace(parts=left)))
                self._sent |= {identity[1:] for identity in plan.identities}
                if there:
                    self.tally.in_part[letter.name] = sorted(set(there.values()))
        self._send(sent)
        self.tally.replayed += len(sent)
        self.tally.edited += sum(plan.edited for _, plan in sent)

    def _there(self, plan: Plan, stored: Mapping[Identity, str]) -> dict[Identity, str]:
        """Return the plan's events that are stored (with the stored id) or were sent by this replay (SENT_NOW)."""
        sent = {i: SENT_NOW for i in plan.identities if i[1:] in self._sent}
        return sent | {i: stored[i] for i in plan.identities if i in stored}

    def _send(self, sent: list[tuple[L, Plan]]) -> None:
        if not sent or self._recoveries is None:
            return
        self._pace.keep(len(sent))
        now = int(time.time() * 1_000)
        entries = [
            Recovery(
                letter=letter.name,
                kind=letter.kind,
                step=letter.step,
                source=letter.source,
                received_at=letter.received_at,
                event_id=letter.event_id,
                edited=plan.edited,
                recovered_at=now,
            )
            for letter, plan in sent
        ]
        self._recoveries.write([part.write for _, plan in sent for part in plan.parts], entries)
