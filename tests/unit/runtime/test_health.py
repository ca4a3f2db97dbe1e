"""A worker's health port answers programs and rejects foreign web pages."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from weir.embedded.ports import free_port
from weir.runtime.health import Health, serve


@pytest.fixture
def port() -> Iterator[int]:
    health, port = Health(), free_port()
    health.ready()
    stop = serve("127.0.0.1", port, health)
    yield port
    stop()


@pytest.mark.parametrize("path", ["livez", "readyz", "metrics"])
def test_the_health_port_answers_programs(port: int, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
        assert answer.status == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "header",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://[::1"},
        {"Host": "rebound.example"},
    ],
)
def test_the_health_port_rejects_foreign_pages_with_403(port: int, header: dict[str, str]) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=header)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code == 403
    assert b"weir_" not in refused.value.read()
    refused.value.close()
