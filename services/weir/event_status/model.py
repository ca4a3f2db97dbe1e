"""Derive one event's status from its rows in ClickHouse and its records in the topics. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from weir.core import topics
from weir.core.stages import EVENT_STAGES

Fate = Literal["queued", "stored", "duplicate", "rejected", "dead", "unsaved", "unknown"]
EventRow = Mapping[str, Any]  # by column or field name; times in epoch milliseconds

# By topic, the name of the time at which an event was written to it.
TIMES = {
    topics.ACCEPTED: "accepted_at",
    topics.UNIQUE: "deduplicated_at",
    topics.RESOLVED: "resolved_at",
}
# If the evidence for one id differs, the first of these fates is the answer: a row is beyond doubt, and
# an event that was rejected or died may have been sent again and be queued now.
ORDER: tuple[Fate, ...] = ("stored", "queued", "unsaved", "duplicate", "dead", "rejected")
FACTS = (
    "event",
    "profile_id",
    "session_id",
    "user_id",
    "anonymous_id",
    "idempotency_key",
    "door",
)
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class EventRows:
    """The rows of an id in ClickHouse, the latest first in each table."""

    stored: Sequence[EventRow] = ()
    duplicates: Sequence[EventRow] = ()
    rejected: Sequence[EventRow] = ()
    dead: Sequence[EventRow] = ()


class TopicRecord(msgspec.Struct, frozen=True):
    """A record of the event in a topic.

    `waiting`: the next stage has not committed it yet. `held`: the next stage cannot read it yet, because
    it is behind an open transaction.
    """

    topic: str
    at: int  # epoch milliseconds
    waiting: bool
    held: bool = False


@dataclass(frozen=True)
class TopicEvidence:
    """The records of an event in the topics, in the order of the stages."""

    event_id: str = ""
    event: EventRow = field(default_factory=dict)  # its fields, as far as they could be read
    seen: tuple[TopicRecord, ...] = ()
    duplicate: EventRow | None = None
    rejected: EventRow | None = None
    dead: EventRow | None = None
    bounds: tuple[str, ...] = ()  # what was not searched; empty: everything was


class EventStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `certain` false: some place could not be asked or not be searched to its end."""

    id: str  # as the caller asked for it
    fate: Fate
    event_id: str | None = None
    source: str | None = None
    stage: str | None = None  # the stage that reads a queued event next
    since: str | None = None  # RFC 3339: when it reached its present place
    times: dict[str, str] = {}
    facts: dict[str, Any] = {}
    advice: str = ""
    notes: tuple[str, ...] = ()
    certain: bool = True


class StatusEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one table or topic says about one event."""

    fate: Fate
    event_id: str
    source: str
    times: dict[str, int]
    facts: dict[str, Any]
    advice: str
    stage: str | None = None
    since: int = 0


def decide(sought: str, rows: EventRows | str, trail: TopicEvidence | str) -> EventStatus:
    """Combine the evidence into one answer about the id `sought`.

    A text in place of `rows` or `trail` says why ClickHouse or the topics could not be asked.
    """
    notes = []
    if isinstance(rows, str):
        notes.append(f"ClickHouse cannot be queried; this answer is from the topics: {rows}")
    if isinstance(trail, str):
        notes.append(f"The topics cannot be read: {trail}")
    accounts = [] if isinstance(rows, str) else list(_of_rows(rows))
    if isinstance(trail, TopicEvidence):
        notes += trail.bounds
        accounts += _of_trail(trail, isinstance(rows, str))
    if not accounts:
        return _unknown(sought, trail, tuple(notes))
    best = min(accounts, key=lambda account: ORDER.index(account.fate))
    times = dict(best.times)
    if isinstance(trail, TopicEvidence) and trail.event_id == best.event_id:
        times |= {TIMES[one.topic]: one.at for one in trail.seen}
    ordered = sorted(times.items(), key=lambda item: item[1])
    others = {account.event_id for account in accounts if account.event_id} - {best.event_id}
    if others:
        notes.append(f"Other events with this id: {', '.join(sorted(others))}.")
    return EventStatus(
        id=sought,
        fate=best.fate,
        event_id=best.event_id or None,
        source=best.source or None,
        stage=best.stage,
        since=json_time(best.since) if best.since else None,
        times={name: json_time(at) for name, at in ordered if at > 0},
        facts={name: value for name, value in best.facts.items() if value not in ("", None)},
        advice=best.advice,
        notes=tuple(notes),
    )


def json_time(ms: int) -> str:
    """Format epoch milliseconds as RFC 3339, to the millisecond."""
    text = (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _unknown(sought: str, trail: TopicEvidence | str, notes: tuple[str, ...]) -> EventStatus:
    """Return the answer for an event that is in no place, or in none of those that could be searched."""
    found = isinstance(trail, TopicEvidence) and trail.seen
    if isinstance(trail, TopicEvidence) and trail.seen:
        advice = (
            "The event was accepted but is in none of the places where it can be: it was erased"
            " with its person, deleted from ClickHouse, or lost. `weir audit` shows which."
        )
        if trail.bounds:
            advice = (
                "The event was accepted, but the search ended before it found what happened to it"
                " (see the notes). Try again."
            )
        times = {TIMES[one.topic]: json_time(one.at) for one in trail.seen}
    elif notes:
        advice = "Not known: some places could not be queried or not searched completely (see the notes)."
        times = {}
    else:
        advice = (
            "No event with this id was found. Check that its request was answered with 202, and"
            " that the id is its event_id or the idempotency key that was sent with it. An event"
            " that was not to be saved can be found only as long as the topics keep it."
        )
        times = {}
    return EventStatus(
        id=sought,
        fate="unknown",
        event_id=trail.event_id or None if isinstance(trail, TopicEvidence) else None,
        source=trail.event.get("source") if isinstance(trail, TopicEvidence) else None,
        times=times,
        advice=advice,
        notes=notes,
        certain=not (notes or found),
    )


def _of_rows(rows: EventRows) -> Iterator[StatusEvidence]:
    for row in rows.stored:
        advice = "The event is in `weir.events`; no action is needed."
        yield _stored(row, row["inserted_at"], advice)
    for row in rows.duplicates:
        yield _duplicate(row)
    for row in rows.dead:
        yield _dead(row)
    for row in rows.rejected:
        yield _rejected(row)


def _of_trail(trail: TopicEvidence, alone: bool) -> Iterator[StatusEvidence]:
    """Yield what the topics say.

    `alone`: ClickHouse cannot be asked, so the sink's committed position counts as proof of the insert.
    """
    last = trail.seen[-1] if trail.seen else None
    if last is not None and last.waiting:
        yield _queued(trail, last)
    elif trail.duplicate is not None:
        yield _duplicate(trail.duplicate)
    elif trail.dead is not None:
        yield _dead(trail.dead)
    elif trail.rejected is not None:
        yield _rejected(trail.rejected)
    elif last is not None and last.topic == topics.RESOLVED and alone:
        advice = "The sink has stored the event in ClickHouse, by its committed position in Kafka."
        yield _stored({**trail.event, "event_id": trail.event_id}, 0, advice)
    elif last is not None and last.topic == topics.UNIQUE and trail.event.get("saved") is False:
        yield StatusEvidence(
            fate="unsaved",
            **_whose(trail),
            advice="The event was processed and not stored, as its sender requested. The audit's"
            " books count it.",
        )


def _whose(trail: TopicEvidence) -> dict[str, Any]:
    """Return the fields that all evidence from the topics shares."""
    event = trail.event
    return {
        "event_id": trail.event_id,
        "source": event.get("source", ""),
        "times": {
            name: event[name] for name in ("occurred_at", "received_at") if event.get(name)
        },
        "facts": {name: event.get(name, "") for name in FACTS},
    }  # fmt: skip


def _queued(trail: TopicEvidence, last: TopicRecord) -> StatusEvidence:
    stage = EVENT_STAGES[last.topic].name
    advice = (
        f"The event waits for {stage}: `weir status` shows whether {stage} runs and how far behind"
        " it is."
    )
    if last.held:
        advice = (
            f"The event waits for {stage}, behind an open transaction in {last.topic}. It can be"
            " read when the transaction ends: at the latest after its producer's transaction"
            " timeout."
        )
    return StatusEvidence(fate="queued", **_whose(trail), stage=stage, since=last.at, advice=advice)


def _stored(row: EventRow, since: int, advice: str) -> StatusEvidence:
    names = ("occurred_at", "received_at", "inserted_at")
    return StatusEvidence(
        fate="stored",
        event_id=row["event_id"],
        source=row.get("source", ""),
        times={name: row[name] for name in names if row.get(name)},
        facts={name: row.get(name, "") for name in FACTS},
        since=since,
        advice=advice,
    )


def _duplicate(row: EventRow) -> StatusEvidence:
    same = bool(row["same_payload"])
    advice = (
        f"The event repeats {row['first_event_id']} with the same payload: nothing is missing."
        if same
        else f"The idempotency key was used before, by {row['first_event_id']}, with another payload:"
        " only that event is stored. If these are two different events, give each its own key and"
        " send this one again."
    )
    names = ("first_received_at", "received_at", "inserted_at")
    return StatusEvidence(
        fate="duplicate",
        event_id=row["event_id"],
        source=row["source"],
        times={name: row[name] for name in names if row.get(name)},
        facts={
            "first_event_id": row["first_event_id"],
            "same_payload": same,
            "idempotency_key": row["idempotency_key"],
        },
        since=row["received_at"],
        advice=advice,
    )


def _rejected(row: EventRow) -> StatusEvidence:
    place = f" `{row['field']}`" if row["field"] else ""
    return StatusEvidence(
        fate="rejected",
        event_id=row["event_id"],
        source=row["source"],
        times={name: row[name] for name in ("received_at", "inserted_at") if row.get(name)},
        facts={
            "reason": row["code"],
            "field": row["field"],
            "detail": row["detail"],
            "client_id": row["client_id"],
            "door": row["door"],
        },
        since=row["received_at"],
        advice=f"The event was rejected: correct{place or ' it'} and send it again with the same id.",
    )


def _dead(row: EventRow) -> StatusEvidence:
    place = f"{row['origin_topic']}/{row['origin_partition']}/{row['origin_offset']}"
    return StatusEvidence(
        fate="dead",
        event_id=row["event_id"],
        source=row["source"],
        times={
            name: row[name] for name in ("received_at", "died_at", "inserted_at") if row.get(name)
        },
        facts={
            "reason": row["reason"],
            "detail": row["detail"],
            "step": row["step"],
            "letter": place,
        },
        since=row["died_at"],
        advice=f"{row['step']} could not process the event, so it is kept as a dead letter:"
        f" `weir dead show {place}` shows it, and `weir dead replay --id {place}` sends it again,"
        " edited if necessary.",
    )
