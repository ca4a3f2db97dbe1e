"""What a door is: how one product's clients say who they are and what happened, and how they are answered.

A door is pure: functions from a request to events, and from what became of them to that product's
reply. Everything behind it (rates, quotas, validation, Kafka, the books) is the same for all of them.
docs/doors.md says how to add one.
"""

from typing import Any, ClassVar

from weir.core.registry import Source
from weir.gateway.http import request_headers
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest import signing
from weir.gateway.ingest.error_codes import Problem, Refusal
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    Credentials,
    Outcome,
    ParsedEvent,
    ParsedEvents,
)
from weir.gateway.ingest.validation import MAX_CHARACTERS

RECEIPT_SECONDS = 5.0  # how long a reply waits for what the workers decide


class Door:
    """A door with what most have in common; a product's own overrides what differs."""

    name: ClassVar[str]  # as in the column `door` and in metrics
    operation: ClassVar[dict[str, Any]]  # of OpenAPI

    def credentials(self, request: RequestMeta) -> Credentials | None:
        """Who sends. None: only the body says; then `parse` puts it into what it returns.

        Where a key says it already, the body is read on that source's account; what the body
        claims besides must be the same source.
        """
        return Credentials(key=request_headers.key_of(request.headers, request.query))

    def takes(self, media: request_headers.Media) -> bool:
        """Whether it takes a body of that type."""
        return media.taken and not media.is_ndjson

    def declines(self, request: RequestMeta) -> bool:
        """Whether the person asked not to be followed: then nothing of the request is kept."""
        return False

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        """The events in a body, none of them validated yet.

        `ProblemError` when they cannot be told apart; `BodyProblemError` if it is known whose they are
        all the same.
        """
        raise NotImplementedError

    def verify(self, request: RequestMeta, body: bytes, source: Source) -> bytes | None:
        """A digest of what a right signature is of; None: the request is not signed.

        `ProblemError` if the signature is not the source's.
        """
        return signing.verify(request, body, source)

    def redact(self, payload: bytes) -> bytes:
        """What is kept of a refused payload: all but the write keys in it. The claimed one goes anyway."""
        return payload

    def client_id(self, parsed: ParsedEvent) -> str:
        """The client's own name for an event, if one can be read; for its eyes only."""
        sent = parsed.event
        if isinstance(sent, Refusal):
            return ""
        return (sent.idempotency_key or sent.id or "")[:MAX_CHARACTERS]

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        """What the client is told of its events."""
        raise NotImplementedError

    def refuse(self, request: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        """What the client is told when none of its events was looked at."""
        return problem(trouble, headers)
