"""Build the gateway's OpenAPI 3.1 document from the routes, each of which brings its own operation."""

import re
from collections.abc import Iterable
from typing import Any, Protocol

from weir.gateway.http import signing
from weir.gateway.http.error_codes import PROBLEMS

JsonSchema = dict[str, Any]

REJECTED: JsonSchema = {
    "type": "object",
    "required": ["index", "id", "code", "field", "message"],
    "properties": {
        "index": {"type": "integer", "description": "Position in the request, from 0."},
        "id": {"type": ["string", "null"], "description": "The client's own id, if readable."},
        "code": {"type": "string"},
        "field": {"type": ["string", "null"]},
        "message": {"type": "string"},
    },
}

REPLY: JsonSchema = {
    "type": "object",
    "required": ["accepted", "rejected", "event_ids"],
    "properties": {
        "accepted": {"type": "integer"},
        "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejected"}},
        "event_ids": {
            "type": "array",
            "items": {"type": "string", "format": "uuid"},
            "description": "The ids of the accepted events, in order.",
        },
        "warnings": {
            "type": "array",
            "items": {"type": "string"},
            "description": "About accepted events: names that do not have the source's casing, and"
            " ids that were ignored.",
        },
    },
}

PROBLEM: JsonSchema = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(PROBLEMS)},
        "field": {"type": "string"},
        "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejected"}},
    },
}

BODY: JsonSchema = {
    "oneOf": [
        {"$ref": "#/components/schemas/Event"},
        {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Event"}},
        {
            "type": "object",
            "required": ["events"],
            "additionalProperties": False,
            "properties": {
                "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
                "context": {
                    "type": ["object", "null"],
                    "additionalProperties": True,
                    "description": "Merged into each event's own context; the event's own top-level members win.",
                },
            },
        },
    ]
}


def problem_response(text: str) -> JsonSchema:
    """Return the description of an error answer, for every page and door."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}


def _problems(codes: Iterable[str] = PROBLEMS) -> JsonSchema:
    """Return one response for each HTTP status, with the problem codes that it may carry."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    found = {str(s): problem_response(", ".join(codes)) for s, codes in sorted(by_status.items())}
    wait = {"description": "Seconds.", "schema": {"type": "integer"}}
    for status in {"429", "503"} & set(found):
        found[status]["headers"] = {"Retry-After": wait}
    return found


# A parameter of every door.
SIGNATURE = {
    "name": "X-Weir-Signature",
    "in": "header",
    "description": signing.HOW,
    "schema": {"type": "string"},
}


def post(summary: str, body: JsonSchema, **more: Any) -> JsonSchema:
    schema = {"$ref": "#/components/schemas/Reply"}
    accepted = {
        "description": "The accepted events are on all in-sync replicas.",
        "content": {"application/json": {"schema": schema}},
    }
    return {
        "summary": summary,
        "security": [{"bearer": []}, {"header": []}, {"query": []}, {"basic": []}],
        "requestBody": {"required": True, "content": body},
        "responses": {"202": accepted, **_problems()},
        **more,
        "parameters": [*more.get("parameters", ()), SIGNATURE],
    }


def _plain(summary: str, kind: str = "text/plain", **failures: str) -> JsonSchema:
    """Describe an operation whose answers have no schema of ours; `failures`: reasons by `status_NNN`."""
    content: JsonSchema = {kind: {"schema": {}}}
    failed = {
        name.removeprefix("status_"): {"description": why, "content": content}
        for name, why in failures.items()
    }
    return {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}, **failed},
    }


# The problems of a body that cannot be read, at any route.
_OF_BODIES = (
    "client_gone",
    "invalid_length",
    "invalid_encoding",
    "body_too_slow",
    "body_too_large",
    "unsupported_encoding",
    "overloaded",
)


class Described(Protocol):
    """The part of a door or page that describes its operation."""

    @property
    def operation(self) -> JsonSchema: ...


def _path_parameter(name: str) -> JsonSchema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _with_troubles(operation: JsonSchema) -> JsonSchema:
    """Add the responses to unreadable bodies that an operation lacks, unless it has a default response."""
    if "default" in operation["responses"]:
        return operation
    return operation | {"responses": _problems(_OF_BODIES) | operation["responses"]}


_PREFLIGHT: JsonSchema = {
    "summary": "CORS preflight: granted to pages of every origin that any source allows.",
    "responses": {
        "204": {"description": "Granted."},
        "403": problem_response("origin_not_allowed"),
    },
}

_DOCUMENT: JsonSchema = {
    "openapi": "3.1.0",
    "info": {
        "title": "Weir gateway",
        "version": "1",
        "description": "Accepts events. An answer of 202 means that the events are durable, on all"
        " in-sync replicas. After 503 or no answer, send the same events again with the same ids: no"
        " event counts twice.",
    },
    "components": {
        "schemas": {"Rejected": REJECTED, "Reply": REPLY, "Problem": PROBLEM},
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-Weir-Key"},
            "query": {"type": "apiKey", "in": "query", "name": "key"},
            "basic": {
                "type": "http",
                "scheme": "basic",
                "description": "The key as the user name.",
            },
        },
    },
}

_OWN: JsonSchema = {
    "/livez": {"get": _plain("The process answers.")},
    "/readyz": {"get": _plain("Events are accepted.", status_503="Why events are not accepted.")},
    "/metrics": {
        "get": _plain(
            "Prometheus metrics of all processes on the port.",
            status_403="The request is from a page of another origin.",
        )
    },
    "/openapi.json": {"get": _plain("This document.", "application/json")},
}


def document(routes: Iterable[tuple[str, str, Described]], event: JsonSchema) -> JsonSchema:
    """Return the OpenAPI document of a table of (method, path, door or page) routes. `event`: Weir's own event."""
    paths: JsonSchema = {}
    for method, path, at in routes:
        there = paths.setdefault(path, {"options": _PREFLIGHT})
        there[method.lower()] = _with_troubles(at.operation)
        if names := re.findall(r"{(\w+)}", path):
            there["parameters"] = [_path_parameter(name) for name in names]
    own = {path: paths.get(path, {}) | operations for path, operations in _OWN.items()}
    components = _DOCUMENT["components"]
    schemas = {"Event": event, **components["schemas"]}
    return _DOCUMENT | {"paths": paths | own, "components": components | {"schemas": schemas}}
