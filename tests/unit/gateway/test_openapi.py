"""The OpenAPI document says what the gateway does: its routes, its problems, its fields."""

import json

from services.gateway.app import ROUTES
from services.gateway.openapi import DOCUMENT, EVENT
from services.gateway.refusals import PROBLEMS
from services.gateway.rules import SentEvent

METHODS = {"get", "post", "put", "patch", "delete", "options", "head"}


def test_its_paths_are_the_routes() -> None:
    documented = {
        path: {method.upper() for method in operations if method in METHODS}
        for path, operations in DOCUMENT["paths"].items()
    }
    assert documented == {path: set(methods) for path, methods in ROUTES.items()}


def test_its_event_has_the_fields_that_are_read() -> None:
    assert tuple(EVENT["properties"]) == SentEvent.__struct_fields__


def test_posting_documents_every_problem() -> None:
    responses = DOCUMENT["paths"]["/v1/events"]["post"]["responses"]
    assert set(responses) == {"202"} | {str(kind.status) for kind in PROBLEMS.values()}


def test_every_reference_has_its_target() -> None:
    text = json.dumps(DOCUMENT)
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
