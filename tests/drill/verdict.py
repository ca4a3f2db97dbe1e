"""What a drill came to: the sender's own count against Weir's rows, people, accounts and books."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.drill.sender import BATCH, REPEATS, Sent
from tests.drill.world import World

SETTLE_SECONDS = 240
LOOK_SECONDS = 0.5
ROWS = """
    SELECT count(), uniqExact(event_id), uniqExact(idempotency_key)
    FROM weir.events WHERE source = '{0}'
"""
PEOPLE = "SELECT sum(events) FROM weir.profiles WHERE workspace = '{0}'"
VISITS = "SELECT sum(events) FROM weir.sessions WHERE source = '{0}'"
USAGE = """
    SELECT outcome, sum(events) FROM weir.usage
    WHERE source = '{0}' AND stage = 'dedup' GROUP BY outcome
"""


@dataclass
class Verdict:
    """`faults` empty: every distinct event is there once, and everybody counts it once."""

    drill: str
    rounds: int
    sent: Sent
    seconds: float = 0.0
    lost: int = 0
    doubled: int = 0
    balanced: bool = False
    restarts: int = 0  # of processes that ended by themselves
    recoveries: int = 0  # of workers that went on without ending
    skipped: str = ""  # why it could not be done here
    faults: list[str] = field(default_factory=list)


def judge(world: World, drill: str, rounds: int, source: str, sent: Sent) -> Verdict:
    """Waits until nothing is in flight, then counts. Takes no longer than `SETTLE_SECONDS`."""
    verdict = Verdict(drill, rounds, sent)
    audit = _audit(world, source)
    verdict.balanced = bool(audit["balanced"]) and not any(audit["in_flight"].values())
    if not verdict.balanced:
        problems = audit["findings"] or [f"still in flight: {audit['in_flight']}"]
        verdict.faults += [f"books: {finding}" for finding in problems]
    ((rows, ids, keys),) = world.ask(ROWS.format(source))
    verdict.lost = sent.distinct - _number(keys)
    verdict.doubled = _number(rows) - _number(keys)
    found: dict[str, tuple[object, int]] = {
        "rows": (rows, sent.distinct),
        "distinct event ids": (ids, sent.distinct),
        "distinct keys": (keys, sent.distinct),
        "events of people": (_people(world, source, sent.distinct), sent.distinct),
        "events of visits": (world.ask(VISITS.format(source))[0][0], sent.distinct),
    }
    usage = {str(outcome): _number(events) for outcome, events in world.ask(USAGE.format(source))}
    found["unique in usage"] = (usage.get("unique", 0), sent.distinct)
    for name, (seen, wanted) in found.items():
        if seen != wanted:
            verdict.faults.append(f"{seen} {name}, {wanted} sent")
    accepted = usage.get("accepted", 0)
    # a request without an answer may be in Kafka all the same, and then once more by its retry
    if not sent.events <= accepted <= sent.events + sent.retries * (BATCH + REPEATS):
        verdict.faults.append(
            f"{accepted} accepted in usage, {sent.events} acknowledged, {sent.retries} retries"
        )
    return verdict


def _people(world: World, source: str, wanted: int) -> int:
    """Profiles may be written a moment after the events that they count."""
    deadline = time.monotonic() + 30
    while True:
        ((events,),) = world.ask(PEOPLE.format(source))
        if events == wanted or time.monotonic() > deadline:
            return _number(events)
        time.sleep(LOOK_SECONDS)


def _audit(world: World, source: str) -> Mapping[str, Any]:
    arguments = [
        "audit",
        "--json",
        "--all",
        "--ids",
        "--wait",
        str(SETTLE_SECONDS),
        "--source",
        source,
    ]
    code, said = world.weir(arguments, SETTLE_SECONDS + 60)
    _, brace, document = said.partition("{")  # before it stands what it waited for
    if code not in (0, 1) or not brace:
        raise RuntimeError(f"weir audit ended with {code}: {said}")
    report: Mapping[str, Any] = json.loads(brace + document)
    return report


def _number(value: object) -> int:
    return int(str(value))
