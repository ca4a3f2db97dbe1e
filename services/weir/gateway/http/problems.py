"""Problems that are the same at all doors, and CORS headers. Pure."""

import math

from weir.gateway.http import request_headers
from weir.gateway.http.error_codes import Problem, quoted

RETRY_SECONDS = 2
LONGEST_WAIT_SECONDS = 86_400  # what a client is told at most


def limited(code: str, what: str, wait: float) -> Problem:
    seconds = max(1, math.ceil(wait)) if wait < LONGEST_WAIT_SECONDS else LONGEST_WAIT_SECONDS
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
