"""The base class of doors: a door reads one product's requests as events, and answers in its format.

A door is pure: it maps a request to events, and their outcome to the product's reply. Everything behind the
doors (rates, quotas, validation, Kafka, the books) is the same for all of them. docs/doors.md explains how to
add a door.
"""

from typing import Any, ClassVar

from weir.core.registry import Source
from weir.gateway.doors.answers import answer_of
from weir.gateway.http import request_headers, signing
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    Credentials,
    Outcome,
    ParsedEvent,
    ParsedEvents,
)
from weir.gateway.ingest.validation import MAX_CHARACTERS

# for a rejected payload that is parsed again by hand: more than a request may have
LIMITS_AGAIN = BodyLimits(events=100_000, body_bytes=1 << 22)
RECEIPT_SECONDS = 5.0  # longest time that a reply waits for the workers' receipts


class Door:
    """A door with the behaviour that most doors share; a product's door overrides what differs."""

    name: ClassVar[str]  # as in the column `door` and in metrics
    operation: ClassVar[dict[str, Any]]  # of OpenAPI
    # What `parse` needs besides a payload and `events.rejected` does not store; for people
    not_kept: ClassVar[str] = "the request around it"

    def credentials(self, request: RequestMeta) -> Credentials | None:
        """Return the credentials. None: only the body has them; then `parse` returns them with the events.

        If a key names the source already, the body is read on that source's account; a source that the
        body names must be the same.
        """
        return Credentials(key=request_headers.key_of(request.headers, request.query))

    def takes(self, media: request_headers.Media) -> bool:
        """Check whether the door accepts a body of this media type."""
        return media.taken and not media.is_ndjson

    def declines(self, request: RequestMeta) -> bool:
        """Check whether the person asked not to be tracked: then nothing of the request is stored."""
        return False

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        """Return the events in a body, none of them validated yet.

        `ProblemError` if the body cannot be split into events; `BodyProblemError` if it still names its
        source.
        """
        raise NotImplementedError

    def verify(self, request: RequestMeta, body: bytes, source: Source) -> bytes | None:
        """Return a digest of the signed bytes; None: no signature was checked.

        `ProblemError` if the signature is not the source's.
        """
        return signing.verify(request, body, source)

    def redact(self, payload: bytes) -> bytes:
        """Return a rejected payload without write keys, for storage. The request's own key is masked anyway."""
        return payload

    def client_id(self, parsed: ParsedEvent) -> str:
        """Return the client's own id of an event, for the client's information; empty: none can be read."""
        sent = parsed.event
        if isinstance(sent, Refusal):
            return ""
        return (sent.idempotency_key or sent.id or "")[:MAX_CHARACTERS]

    def parse_again(self, payload: bytes, now_ms: int) -> ParsedEvents | None:
        """Return the events of a rejected payload without its request; None if that is not possible.

        `now_ms`: when the payload was received. `ProblemError` as `parse` raises it.
        """
        return None

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        """Return what the client is told of its events."""
        return answer_of(outcome)

    def refuse(self, request: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        """Return the answer to a request that was rejected as a whole."""
        return problem(trouble, headers)
