"""Read the write key, the client's address, the page's site and the body's type from request headers."""

from base64 import b64decode
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from aiohttp import hdrs
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDictProxy, istr

from weir.gateway.http.rate_limits import Proxies, plain_address

Headers = CIMultiDictProxy[str]

WEIR_KEY = istr("X-Weir-Key")
FORWARDED_FOR = istr("X-Forwarded-For")
IDEMPOTENCY_KEY = istr("Idempotency-Key")
MAX_USER_AGENT = 512
NDJSON_TYPES = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/jsonlines",
        "application/json-lines",
        "text/x-ndjson",
    }
)
# Types that clients also send with JSON: browsers' beacons send text/plain, which needs no preflight,
# curl's -d sends a form, and careless clients send a stream of bytes.
JSON_TYPES = frozenset(
    {
        "",
        "application/json",
        "application/x-json",
        "text/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    }
)
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


class Media(NamedTuple):
    """What a Content-Type says about the body."""

    taken: bool
    is_ndjson: bool


_known: dict[str, Media] = {"application/json": Media(True, False)}


def media_of(content_type: str) -> Media:
    known = _known.get(content_type)
    if known is not None:
        return known
    name, *parameters = (part.strip() for part in content_type.lower().split(";"))
    charset = [p.partition("=")[2].strip('" ') for p in parameters if p.startswith("charset")]
    is_ndjson = name in NDJSON_TYPES
    is_json = name in JSON_TYPES or ("/" in name and name.endswith("+json"))
    media = Media((is_ndjson or is_json) and CHARSETS.issuperset(charset), is_ndjson)
    if len(_known) < 256:
        _known[content_type] = media
    return media


def key_of(headers: Headers, query: str) -> str:
    """Return the write key: the first of `Authorization: Bearer`, `X-Weir-Key`, `?key=` and the user name of
    `Authorization: Basic` that is there; empty if none is."""
    authorization = headers.get(hdrs.AUTHORIZATION)
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return clean(authorization[7:].strip())
    key = headers.get(WEIR_KEY)
    if key is not None:
        return clean(key.strip())
    if query and (key := clean(parse_qs(query).get("key", [""])[0])):
        return key
    if authorization is not None and authorization[:6].lower() == "basic ":
        return _user_name(authorization[6:])
    return ""


def _user_name(credentials: str) -> str:
    """Return the user name of RFC 7617 credentials, also without a colon; empty if they are damaged."""
    try:
        return b64decode(credentials.strip()).decode().partition(":")[0]
    except ValueError:
        return ""


def client_address(request: BaseRequest, proxies: Proxies) -> str:
    """Return the address of the client; empty if its connection has none (a Unix socket)."""
    peer = request.protocol.peername
    address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    if address.startswith("::ffff:"):  # the socket accepts IPv6 and IPv4
        address = plain_address(address)
    if not proxies:
        return address
    forwarded = ",".join(request.headers.getall(FORWARDED_FOR, ()))
    return proxies.client_of(address, forwarded)


def site_of(url: str) -> str:
    """Return the host of an http(s) URL or origin, in lower case without `www.`; empty if it has none."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
    except ValueError:
        return ""
    return clean(host.removeprefix("www.")) if parts.scheme in ("http", "https") else ""


def user_agent_of(headers: Headers) -> str:
    return clean(headers.get(hdrs.USER_AGENT, "")[:MAX_USER_AGENT])


def path_part(text: str) -> str:
    """Return a part of the path as text, percent-decoded."""
    return clean(unquote(text, errors="replace"))


def clean(text: str) -> str:
    """Return text that can be encoded as UTF-8, whatever bytes the header contained."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
