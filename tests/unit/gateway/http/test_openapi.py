"""The OpenAPI document matches the gateway's routes, problems and event fields."""

import json

from weir.gateway.app import DOCUMENT
from weir.gateway.http.error_codes import PROBLEMS
from weir.gateway.ingest.validation import EVENT_SCHEMA, SentEvent
from weir.gateway.routes import ROUTES

METHODS = {"get", "post", "put", "patch", "delete", "options", "head"}


OWN = {"/livez", "/readyz", "/metrics", "/openapi.json"}


def test_openapi_paths_equal_the_routes() -> None:
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


def test_the_openapi_event_has_exactly_the_fields_the_gateway_reads() -> None:
    assert tuple(EVENT_SCHEMA["properties"]) == SentEvent.__struct_fields__


def test_post_v1_events_documents_the_status_of_every_problem() -> None:
    responses = DOCUMENT["paths"]["/v1/events"]["post"]["responses"]
    assert set(responses) == {"202"} | {str(kind.status) for kind in PROBLEMS.values()}


def test_every_route_documents_the_responses_to_an_unreadable_body() -> None:
    for route in ROUTES:
        known = set(DOCUMENT["paths"][route.path][route.method.lower()]["responses"])
        assert "default" in known or known >= {"400", "408", "413", "415", "503"}, route.path


def test_every_openapi_schema_reference_resolves() -> None:
    text = json.dumps(DOCUMENT)
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
