"""What a body holds, told apart, or the `Problem` of one that cannot be: in every door's words. Pure."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from weir.gateway.ingest.error_codes import Problem
from weir.gateway.ingest.lenient_json import half_pair_in
from weir.gateway.ingest.validation import MAX_DEPTH

T = TypeVar("T")
P = TypeVar("P")

TOO_DEEP = Problem("too_deep", f"JSON is nested at most {MAX_DEPTH} levels deep.")


def parse_body(
    body: bytes, tell_apart: Callable[[bytes], T], misshapen: Callable[[str], P]
) -> T | P | Problem:
    """What `tell_apart` finds in a body of UTF-8 by decoding it; nothing that msgspec raises leaves.

    `misshapen` answers for JSON of another shape than the decoder's, given what msgspec says of it.
    """
    try:
        if not body.isascii():
            body.decode()
        return tell_apart(body)
    except UnicodeDecodeError as fault:
        return not_utf8(fault)
    except msgspec.ValidationError as fault:
        return misshapen(str(fault))
    except msgspec.DecodeError as fault:
        return why_malformed(body, fault)
    except RecursionError:
        return TOO_DEEP


def not_utf8(fault: UnicodeDecodeError) -> Problem:
    return Problem("invalid_utf8", f"The body must be UTF-8; byte {fault.start} is not.")


def why_malformed(body: bytes, fault: Exception) -> Problem:
    """Of a body that is no JSON: half a surrogate pair is named, with its place."""
    half = half_pair_in(body)
    return malformed(f"The body has {half}, which is not JSON" if half else str(fault))


def malformed(fault: str) -> Problem:
    """Of a body that is no JSON, given what msgspec says of it."""
    return Problem("invalid_json", f"{fault}.")
