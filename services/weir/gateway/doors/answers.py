"""Weir's own answers to events, which several doors give. Pure."""

from collections.abc import Sequence

import msgspec

from weir.gateway.http.error_codes import Problem, Refusal, quoted
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest.parsed_events import Outcome, Refused

_quote = msgspec.json.Encoder().encode


def answer_of(outcome: Outcome) -> Answer:
    """Return 202 if an event was accepted, else the problem of the first rejected event."""
    if outcome.event_ids:
        return Answer(202, reply(outcome))
    return without_valid_event(outcome)


def reply(outcome: Outcome) -> bytes:
    """Return the body of a 202: the ids of the accepted events, in order, and the rejected events by index."""
    ids = '","'.join(outcome.event_ids)
    ids = f'"{ids}"' if ids else ""
    refused = b",".join(map(_rejected, outcome.refused)).decode() if outcome.refused else ""
    warned = f',"warnings":{_quote(outcome.warnings).decode()}' if outcome.warnings else ""
    count = len(outcome.event_ids)
    return f'{{"accepted":{count},"rejected":[{refused}],"event_ids":[{ids}]{warned}}}'.encode()


def without_valid_event(outcome: Outcome) -> Answer:
    """Return the answer to a request whose events were all rejected."""
    return problem(
        Problem("no_valid_event", message(outcome.refused[0].refusal)),
        accepted=0,
        rejected=rejected_list(outcome.refused),
        event_ids=[],
    )


def rejected_list(refused: Sequence[Refused]) -> list[dict[str, object]]:
    return [
        {
            "index": one.index,
            "id": one.client_id or None,
            "code": one.refusal.code,
            "field": one.refusal.field or None,
            "message": message(one.refusal),
        }
        for one in refused
    ]


def _rejected(one: Refused) -> bytes:
    return _quote(rejected_list([one])[0])


def message(refusal: Refusal) -> str:
    """Return a refusal as one sentence."""
    field = refusal.field if refusal.field.isidentifier() else quoted(refusal.field)
    return f"{field} {refusal.text}" if refusal.field else refusal.text
