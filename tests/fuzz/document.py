"""Schemathesis on the OpenAPI document of a running gateway: what it promises of each route, and what it forbids."""

from collections.abc import Iterator
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.explore import explore
from tests.fuzz.place import HANG_SECONDS, Place
from tests.fuzz.sources import PLAIN, PLAIN_ADMIN_KEY, PLAIN_KEY

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Headers by which one or the other product's clients say who they are.
KEYS = {"Authorization": f"Bearer {PLAIN_KEY}", "X-HACKLE-SDK-KEY": PLAIN_KEY}
ADMIN = {"Authorization": f"Bearer {PLAIN_ADMIN_KEY}"}
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def conform(place: Place, number: int, examples: int) -> int:
    """Every operation, `examples` times with what it allows and as often with what it does not."""
    tried = 0
    with requests.Session() as session:
        for operation in _operations(place):
            for mode in MODES:

                def check(case: Case[Any]) -> None:
                    response = case.call(base_url=place.url, session=session, timeout=HANG_SECONDS)
                    status = response.status_code
                    assert status < 500 or status == 503, response.text
                    case.validate_response(response, checks=CHECKS)

                cases = st.builds(
                    _known, operation.as_strategy(generation_mode=mode), st.integers(0, 4)
                )
                tried += explore(cases, check, _raw, number, examples)
    return tried


def _operations(place: Place) -> Iterator[Any]:
    document = requests.get(f"{place.url}/openapi.json", timeout=HANG_SECONDS).json()
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(result, Ok), result
        yield result.ok()


def _known(case: Case[Any], how: int) -> Case[Any]:
    """Mostly of somebody who may: else little is tried but keys."""
    if how:
        is_site = "site_id" in case.path_parameters or case.path == "/v1/events/{id}"
        case.headers = {**case.headers, **(ADMIN if is_site else KEYS)}
        for name in {"site_id", "source_id"} & set(case.path_parameters):
            case.path_parameters[name] = PLAIN
    return case


def _raw(case: Case[Any]) -> list[bytes]:
    """Its request as it is sent."""
    request = requests.Request(**case.as_transport_kwargs(base_url="http://x")).prepare()
    body = request.body or b""
    lines = [f"{request.method} {request.path_url} HTTP/1.1", "Host: x"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape")
    return [head + b"\r\n\r\n" + (body.encode() if isinstance(body, str) else body)]
