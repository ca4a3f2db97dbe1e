"""Decode a body, or raise a `ProblemError` that says why not, in words that fit every door. Pure."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from weir.gateway.http.error_codes import Problem, ProblemError
from weir.gateway.ingest.lenient_json import half_pair_in
from weir.gateway.ingest.validation import MAX_DEPTH

T = TypeVar("T")

TOO_DEEP = Problem("too_deep", f"JSON may be nested at most {MAX_DEPTH} levels deep.")
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse_body(body: bytes, decode: Callable[[bytes], T], misshapen: Callable[[str], Problem]) -> T:
    """Return what `decode` finds in a UTF-8 body. Every error becomes a `ProblemError`.

    `misshapen` returns the problem of JSON that does not have the decoder's shape, given msgspec's message.
    """
    try:
        if not body.isascii():
            body.decode()
        return decode(body)
    except UnicodeDecodeError as fault:
        raise ProblemError(not_utf8(fault)) from None
    except msgspec.ValidationError as fault:
        raise ProblemError(misshapen(str(fault))) from None
    except msgspec.DecodeError as fault:
        raise ProblemError(why_malformed(body, fault)) from None
    except RecursionError:
        raise ProblemError(TOO_DEEP) from None


def not_utf8(fault: UnicodeDecodeError) -> Problem:
    return Problem("invalid_utf8", f"The body must be UTF-8; byte {fault.start} is not valid.")


def why_malformed(body: bytes, fault: Exception) -> Problem:
    """Return the problem of a body that is not JSON; it names half a surrogate pair and its position."""
    half = half_pair_in(body)
    return malformed(f"The body contains {half}, which is not valid JSON" if half else str(fault))


def malformed(fault: str) -> Problem:
    """Return the problem of a body that is not JSON, given msgspec's message."""
    return Problem("invalid_json", f"{fault}.")


def json_in(body: bytes) -> bytes:
    """Return the JSON of a body, as it was written. `ProblemError` if the body is not JSON."""
    return parse_body(body, _json_in, malformed)


def _json_in(body: bytes) -> bytes:
    if not (body := body.strip(b" \t\r\n")):
        text = "Send a JSON object: it becomes the event's properties."
        raise ProblemError(Problem("empty_body", text))
    _decode_raw(body)
    return body


def has_member(payload: bytes, name: str) -> bool:
    """Check whether a payload is a JSON object with this member."""
    try:
        return name in _decode_members(payload)
    except (msgspec.DecodeError, RecursionError):
        return False
