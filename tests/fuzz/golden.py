"""Where everything starts from: the golden examples of every door, and a request to every page."""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import brotli
import zstandard
from msgspec import Struct

from tests.fuzz.sources import ADMIN_KEY, KEY, READ_KEY, SECRET, SITE, SOURCE
from tests.support.signing import SIGN
from weir.core.resource_paths import SCHEMAS

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: brotli.compress(body, quality=2),
    "zstd": zstandard.compress,
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
GOALS = f"/api/sites/{SOURCE}/goals"


class Sent(Struct, frozen=True):
    """A request as a client builds it. `sign`: by which product's rules, when it is sent."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    sign: str = ""
    chunked: bool = False

    def raw(self) -> bytes:
        """Its bytes on the wire; well-formed HTTP/1.1 as far as its parts allow."""
        headers = dict(self.headers)
        if self.sign:
            headers |= SIGN[self.sign](self.method, self.path, self.body, KEY, SECRET)
        body = self.body
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x;x=y\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"0\r\n\r\n"
        else:
            headers["Content-Length"] = str(len(body))
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: x"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def _filled(text: str) -> str:
    return text.replace("{source}", SOURCE).replace("{key}", KEY)


def _sent(example: Mapping[str, Any]) -> Sent:
    body = _filled(example.get("body", "")).encode()
    if "body_base64" in example:
        body = base64.b64decode(example["body_base64"])
    headers = {} if example.get("without_key") else {"X-Weir-Key": KEY}
    given = example.get("headers", {"Content-Type": "application/json"})
    headers |= {name: _filled(value) for name, value in given.items()}
    compress = COMPRESS.get(headers.get("Content-Encoding", ""))
    if compress and not example.get("as_is"):
        body = compress(body)
    path = _filled(example.get("path", "/v1/events"))
    method = example.get("method", "POST")
    return Sent(method, path, tuple(headers.items()), body, example.get("sign", ""))


def _pages() -> list[Sent]:
    """Of the routes that take no events, which have no golden examples."""
    read, admin = (("X-Weir-Key", READ_KEY),), (("X-Weir-Key", ADMIN_KEY),)
    goal = b'{"name":"Purchase","type":"event","value":"purchase"}'
    span = "from=2026-01-01T07:00:00.001Z&to=2026-01-03T18:00:00Z"
    known = "1da4cf58-7b3a-5a3e-8f0e-0d6f3f4c7a10"
    return [
        Sent("POST", GOALS, admin, goal),
        Sent("GET", GOALS, (("Cookie", f"hk_token={READ_KEY}"),)),
        Sent("DELETE", f"{GOALS}?goal_id={known}", admin),
        Sent("DELETE", f"{GOALS}/{known}", admin),
        Sent("GET", f"{GOALS}/stats?{span}", read),
        Sent("GET", f"{GOALS}/timeseries?{span}&interval=hour&goal_id={known}", read),
        Sent("GET", f"/v1/events/order-17?source={SOURCE}", read),
        Sent("GET", f"/api/v2/workspaces/{KEY}/config", (("If-None-Match", 'W/"1"'),)),
        Sent(
            "GET", f"/api/v2/workspaces/{KEY}/config", (("If-Modified-Since", "Sat, 01 Jan 2000"),)
        ),
        Sent("POST", "/metrics", (("X-HACKLE-SDK-KEY", KEY),), b'{"metrics":[]}'),
        Sent("OPTIONS", "/v1/events", (("Origin", f"https://{SITE}"),)),
        *(Sent("GET", path, ()) for path in ("/livez", "/readyz", "/metrics", "/openapi.json")),
    ]


def golden() -> list[Sent]:
    """Every golden example, valid or not, and every page; the smallest first, which is what remains
    of an input that fails."""
    paths = sorted((SCHEMAS / "examples").glob("*/*.json"))
    found = [_sent(json.loads(path.read_text())) for path in paths] + _pages()
    return sorted(found, key=lambda sent: len(sent.body))


SEEDS = golden()
HEADERS = sorted({name for seed in SEEDS for name, _ in seed.headers} | {"Idempotency-Key"})
PATHS = sorted({seed.path for seed in SEEDS})
BODIES = sorted({seed.body for seed in SEEDS if seed.body}, key=len)
NAMES = sorted({n for body in BODIES for n in re.findall(rb'"([$\w]{1,24})"\s*:', body)})
