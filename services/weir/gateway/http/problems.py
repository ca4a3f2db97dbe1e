"""Problems that are the same at all doors, and CORS headers. Pure."""

import math

from weir.gateway.http import request_headers
from weir.gateway.ingest.error_codes import Problem, quoted
from weir.gateway.ingest.parsed_events import Credentials
from weir.gateway.registry_copy import SourceView

RETRY_SECONDS = 2


def over_quota(view: SourceView, now_ms: int) -> tuple[Problem | None, bool]:
    """Return (why the source may not send now, or None; whether its events must be marked)."""
    quota, resets_at, marked = view.exceeded_at(now_ms)
    if quota is None:
        return None, marked
    wait = max(1, math.ceil((resets_at - now_ms) / 1000))
    text = f"Quota {quota.name!r} of {quota.limit:,} {quota.unit} per {quota.period} is used up."
    return Problem("quota_exceeded", text, "", wait), marked


def unauthorized(claimed: Credentials) -> Problem:
    if claimed.site:
        return Problem("unknown_site", f"No source has {quoted(claimed.site)} among its sites.")
    if claimed.source and not claimed.key:
        text = f"No source {quoted(claimed.source)} accepts events without its key."
        return Problem("unauthorized", text)
    text = "Send the key as `Authorization: Bearer`, `X-Weir-Key` or `?key=`."
    return Problem("unauthorized", text)


def limited(code: str, what: str, wait: float) -> Problem:
    seconds = max(1, math.ceil(wait))
    return Problem(code, f"{what} arrive faster than allowed; retry in {seconds} s.", "", seconds)


def unsupported(content_type: str) -> Problem:
    said = quoted(request_headers.clean(content_type))
    text = f"{said} is unsupported: send application/json or application/x-ndjson, in UTF-8."
    return Problem("unsupported_media_type", text)


def unavailable(why: str) -> Problem:
    return Problem("unavailable", f"{why} Nothing was accepted; try again.", "", RETRY_SECONDS)


def unacknowledged() -> Problem:
    """Return the problem of events that were handed to the brokers: some or all of them may be stored."""
    text = (
        "The brokers did not acknowledge in time: it is not known whether the events are stored."
        " Send them again with the same ids; events that are already stored do not count twice."
    )
    return Problem("unacknowledged", text, "", RETRY_SECONDS)


def overloaded() -> Problem:
    text = "The gateway has no room for more requests now. Nothing was accepted; try again."
    return Problem("overloaded", text, "", 1)


def gave_way() -> Problem:
    text = (
        "The body arrived too slowly while other requests needed its memory. Nothing was accepted;"
        " try again."
    )
    return Problem("overloaded", text, "", 1)


def cors(page: str) -> bytes:
    """Return headers that let a page's script read the answer; credentials, as beacons always send them."""
    origin = page.encode("utf-8", "surrogateescape")
    return (
        b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\n"
        b"Access-Control-Expose-Headers: Retry-After\r\nVary: Origin\r\n" % origin
    )
