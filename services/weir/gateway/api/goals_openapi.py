"""The OpenAPI operations of the pages for goals."""

from typing import Any

from weir.gateway.http.openapi import problem_response

Operation = dict[str, Any]

_SECURITY: list[Operation] = [{"bearer": []}, {"header": []}, {"query": []}]
_QUERY: dict[str, Operation] = {
    "from": {"schema": {"type": "string", "format": "date-time"}},
    "to": {"schema": {"type": "string", "format": "date-time"}},
    "interval": {"schema": {"type": "string", "enum": ["hour", "day"], "default": "day"}},
    "goal_id": {
        "schema": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "explode": True,
    },
}
_GOAL: Operation = {
    "type": "object",
    "required": ["name", "type", "value"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 255},
        "type": {"type": "string", "enum": ["event", "path"]},
        "value": {
            "type": "string",
            "minLength": 1,
            "maxLength": 2_048,
            "description": "Compared exactly: an event's name, or the path of a page view's URL.",
        },
    },
}


def reading(summary: str, *query: str) -> Operation:
    parameters = [{"name": name, "in": "query", **_QUERY[name]} for name in query]
    return _operation(summary, {"200": _json("The result.")}, parameters=parameters)


def making(summary: str) -> Operation:
    body = {"required": True, "content": {"application/json": {"schema": _GOAL}}}
    answers = {
        "201": _json("The goal is created and durable."),
        "200": _json("The goal exists already."),
    }
    return _operation(summary, answers, requestBody=body)


def deletion(summary: str) -> Operation:
    return _operation(summary, {"204": {"description": "The goal is deleted durably."}})


def _operation(summary: str, answers: Operation, **more: Any) -> Operation:
    problems = {
        "400": problem_response("The request is not valid."),
        "401": problem_response("The key is missing or unknown."),
        "403": problem_response("The key does not permit this request."),
        "404": problem_response("No such goal."),
        "422": problem_response("The goal is not valid, or the site has too many goals."),
        "503": problem_response("The brokers or ClickHouse are not available; try again."),
    }
    return {
        "summary": summary, "security": _SECURITY, "responses": answers | problems, **more
    }  # fmt: skip


def _json(text: str) -> Operation:
    return {"description": text, "content": {"application/json": {"schema": {}}}}
