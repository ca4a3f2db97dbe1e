"""`GET /v1/events/{id}`: where an event is, for clients with a read or admin key of its source."""

from collections.abc import Collection
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from weir.core.registry import Source, hash_key
from weir.core.stages import EVENT_STAGES
from weir.event_status.model import EventStatus
from weir.gateway.api.api_keys import api_key_of
from weir.gateway.api.bounded_executor import RETRY_SECONDS
from weir.gateway.api.finding import EventFinder
from weir.gateway.http.body_reader import ReadBody
from weir.gateway.http.error_codes import Problem, quoted
from weir.gateway.http.openapi import problem_response
from weir.gateway.http.problems import unavailable
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.registry_copy import Registry

MAX_ID = 255  # characters, as for an idempotency key


def readable(key: str, wanted: str, sources: Collection[Source]) -> tuple[str, ...] | Problem:
    """Return the sources whose events a key may see, at least one; only `wanted` if it is not empty."""
    digest = hash_key(key) if key else ""
    enabled = [source for source in sources if source.enabled]
    found = [s.id for s in enabled if digest in s.read_key_hashes + s.admin_key_hashes]
    if wanted and found and wanted not in found:
        return Problem("forbidden", f"The key may not read the source {quoted(wanted)}.", "source")
    if found:
        return (wanted,) if wanted else tuple(sorted(found))
    if any(digest in source.key_hashes for source in enabled):
        return Problem("forbidden", "This requires one of the source's read_keys or admin_keys.")
    return Problem(
        "unauthorized", "Send a read key as `Authorization: Bearer`, `X-Weir-Key` or `?key=`."
    )


def answer_of(where: EventStatus) -> Answer:
    """Return 200 with the fate; 404 if there is no such event, 503 if that is not certain.

    An event that was accepted but found nowhere is answered with 200 and the fate `unknown`.
    """
    if where.fate != "unknown" or where.event_id:
        return Answer(200, msgspec.json.encode(where))
    members: dict[str, Any] = {"id": where.id, "fate": where.fate, "notes": where.notes}
    if where.certain:
        return problem(Problem("not_found", where.advice), **members)
    return problem(Problem("cannot_tell", where.advice, "", RETRY_SECONDS), **members)


_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_WHERE: dict[str, Any] = {
    "type": "object",
    "required": ["id", "fate", "event_id", "source", "stage", "since", "times", "facts", "advice"],
    "properties": {
        "id": {**_TEXT, "description": "The id in the request."},
        "fate": {
            "type": "string",
            "enum": ["queued", "stored", "duplicate", "rejected", "dead", "unsaved", "unknown"],
        },
        "event_id": {"type": ["string", "null"]},
        "source": {"type": ["string", "null"]},
        "stage": {
            "type": ["string", "null"],
            "enum": [*(stage.name for stage in EVENT_STAGES.values()), None],
            "description": "For a queued event: the stage that reads it next.",
        },
        "since": {
            "type": ["string", "null"],
            "description": "When the event reached its present place.",
        },
        "times": {
            "type": "object",
            "additionalProperties": _TIME,
            "description": "The times of the event at each stage, as far as known, in order.",
        },
        "facts": {
            "type": "object",
            "description": "For a stored event: its name, profile, session, …; for a duplicate:"
            " first_event_id and same_payload; for a rejected event or a dead letter: reason, field,"
            " detail.",
        },
        "advice": {**_TEXT, "description": "What to do."},
        "notes": {
            "type": "array",
            "items": _TEXT,
            "description": "What could not be queried or searched.",
        },
        "certain": {"type": "boolean"},
    },
}


class EventStatusContext(Protocol):
    """What this page needs of the gateway."""

    @property
    def registry(self) -> Registry: ...

    @property
    def finding(self) -> EventFinder: ...


class EventStatusPage:
    """The page for an event's status. Without ClickHouse it answers from the topics, or that it cannot tell."""

    name = "where"
    operation: dict[str, Any] = {  # noqa: RUF012
        "summary": "The status of an event, by its event_id or the client's own id.",
        "security": [{"bearer": []}, {"header": []}, {"query": []}],
        "parameters": [
            {
                "name": "source",
                "in": "query",
                "schema": _TEXT,
                "description": "A source that the key may read; default: all of them.",
            }
        ],
        "responses": {
            "200": {
                "description": "The status of the event.",
                "content": {"application/json": {"schema": _WHERE}},
            },
            "400": problem_response("The id is not valid."),
            "401": problem_response("The key is missing or unknown."),
            "403": problem_response("The key may not read, or may not read this source."),
            "404": problem_response("No such event in the sources that the key may read."),
            "503": problem_response("The status is not known at the moment; try again."),
        },
    }

    async def answer(self, asked: RequestMeta, read: ReadBody, app: EventStatusContext) -> Answer:
        if not app.registry.loaded:
            return problem(unavailable("The registry is not loaded yet."))
        key = api_key_of(asked.headers, asked.query)
        wanted = parse_qs(asked.query).get("source", [""])[-1]
        sources = [view.source for view in app.registry.by_id.values()]
        scope = readable(key, wanted, sources)
        if isinstance(scope, Problem):
            ask = b"WWW-Authenticate: Bearer\r\n" if scope.code == "unauthorized" else b""
            return problem(app.registry.explained(key, scope), ask)
        sought = asked.parts["id"].strip()
        if not 1 <= len(sought) <= MAX_ID:
            return problem(Problem("invalid_query", f"An id has 1 to {MAX_ID} characters.", "id"))
        where = await app.finding.find(sought, scope)
        return problem(where) if isinstance(where, Problem) else answer_of(where)


PAGE = EventStatusPage()
