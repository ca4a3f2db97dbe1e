"""The OpenAPI document says what the gateway does: its routes, its problems, its fields."""

import json

from weir.gateway.app import DOCUMENT
from weir.gateway.http.error_codes import PROBLEMS
from weir.gateway.http.openapi import EVENT
from weir.gateway.ingest.validation import SentEvent
from weir.gateway.routes import ROUTES

METHODS = {"get", "post", "put", "patch", "delete", "options", "head"}


OWN = {"/livez", "/readyz", "/metrics", "/openapi.json"}


def test_its_paths_are_the_routes() -> None:
    documented = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method in METHODS and method != "options"
    }
    assert documented - {("GET", path) for path in OWN} == {
        (route.method, route.path) for route in ROUTES
    }
    assert set(DOCUMENT["paths"]) >= OWN


def test_its_event_has_the_fields_that_are_read() -> None:
    assert tuple(EVENT["properties"]) == SentEvent.__struct_fields__


def test_posting_documents_every_problem() -> None:
    responses = DOCUMENT["paths"]["/v1/events"]["post"]["responses"]
    assert set(responses) == {"202"} | {str(kind.status) for kind in PROBLEMS.values()}


def test_every_route_documents_a_body_that_cannot_be_read() -> None:
    for route in ROUTES:
        known = set(DOCUMENT["paths"][route.path][route.method.lower()]["responses"])
        assert "default" in known or known >= {"400", "408", "413", "415", "503"}, route.path


def test_every_reference_has_its_target() -> None:
    text = json.dumps(DOCUMENT)
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
