"""Plan how to resend a rejected event: through the gateway's own checks, under its original event id. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import uuid_utils

from weir.core.identifiers import content_digest
from weir.core.registry import Source
from weir.gateway.http.error_codes import ProblemError
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records
from weir.gateway.routes import DOORS
from weir.redelivery.dead_letters import identity_in
from weir.redelivery.edits import Edit, NoSuchPathError
from weir.redelivery.model import RejectedLetter, Write
from weir.redelivery.plans import (
    REFUSED_AGAIN,
    NotSendable,
    Plan,
    PlannedWrite,
    RejectedAgain,
    gateway_partition,
)


def plan(
    letter: RejectedLetter,
    edits: Sequence[Edit],
    door: str | None,
    sources: Mapping[str, Source],
    partitions: Mapping[str, int],
) -> Plan | NotSendable:
    """Return the records to write, or why the payload cannot be sent.

    `door`: the door whose format the payload is parsed as; None: the door it was sent to. A body of several
    events is accepted or rejected as a whole; its first event has the event id of the rejected payload.
    """
    source = sources.get(letter.source)
    if source is None:
        return NotSendable(f"the registry has no source {letter.source}")
    payload = letter.payload
    try:
        for edit in edits:
            payload = edit.apply(payload)
    except NoSuchPathError as fault:
        return NotSendable(str(fault))
    try:
        parser = DOORS.get(door or letter.door)
        events = None if parser is None else parser.parse_again(payload, letter.received_at)
    except ProblemError as error:
        problem = error.problem
        again = RejectedAgain(problem.code, problem.field, problem.detail)
        return NotSendable(REFUSED_AGAIN, (again,))
    if events is None:
        own = DOORS.get(letter.door)
        what = "the rest of its request" if own is None else own.not_kept
        return NotSendable(
            f"a payload of the door {letter.door} cannot be parsed by itself: {what} is not kept."
            " Edit it into an event in Weir's own format and add `--door events`"
        )
    client = Client(
        letter.door,
        letter.ip,
        letter.user_agent,
        has_profile=events.wants_profile,
        has_session=events.wants_session,
        saved=events.saved,
    )
    context = RecordContext(SourceFields.of(source), letter.received_at, client)
    records = build_records(events, source, context, _ids(letter.event_id).__next__)
    if records.refused:
        refusals = (one.refusal for one in records.refused)
        return NotSendable(
            REFUSED_AGAIN, tuple(RejectedAgain(r.code, r.field, r.text) for r in refusals)
        )
    writes = [
        Write(topic, gateway_partition(key, topic, partitions), key, value or b"")
        for topic, key, value in records.records
    ]
    parts = [PlannedWrite(write, identity_in(write.value)) for write in writes]
    return Plan(parts, payload != letter.payload)


def _ids(first: bytes) -> Iterator[uuid_utils.UUID]:
    """Yield the rejected event's own id, then further ids with the same time. They are the same in every run."""
    yield uuid_utils.UUID(bytes=first)
    for number in count(1):
        digest = content_digest(first + number.to_bytes(8))
        # keep time, version and the twelve bits after it; set the variant (RFC 9562, 5.7)
        yield uuid_utils.UUID(bytes=first[:8] + bytes([digest[8] & 0x3F | 0x80]) + digest[9:])
