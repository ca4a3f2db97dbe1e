"""Decode a body into its events, or raise the `ProblemError` that says why not, in words for every door. Pure."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from weir.gateway.ingest.error_codes import Problem, ProblemError
from weir.gateway.ingest.lenient_json import half_pair_in
from weir.gateway.ingest.validation import MAX_DEPTH

T = TypeVar("T")

TOO_DEEP = Problem("too_deep", f"JSON is nested at most {MAX_DEPTH} levels deep.")


def parse_body(body: bytes, decode: Callable[[bytes], T], misshapen: Callable[[str], Problem]) -> T:
    """What `decode` finds in a body of UTF-8; nothing that msgspec raises leaves.

    `misshapen` says what is wrong with JSON of another shape than the decoder's, given what msgspec
    says of it.
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
    return Problem("invalid_utf8", f"The body must be UTF-8; byte {fault.start} is not.")


def why_malformed(body: bytes, fault: Exception) -> Problem:
    """Of a body that is no JSON: half a surrogate pair is named, with its place."""
    half = half_pair_in(body)
    return malformed(f"The body has {half}, which is not JSON" if half else str(fault))


def malformed(fault: str) -> Problem:
    """Of a body that is no JSON, given what msgspec says of it."""
    return Problem("invalid_json", f"{fault}.")
