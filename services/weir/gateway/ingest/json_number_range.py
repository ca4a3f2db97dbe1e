"""Detect JSON numbers that ClickHouse's JSON type refuses because they exceed a double. Pure.

Integers without a fraction or an exponent do not count: whatever their length, they are stored as text.
"""

import re
from math import isinf

# Maps all digits and the `+` of an exponent to `0`, so that one search finds the candidates.
_SHAPES = bytes.maketrans(b"123456789+E", b"0000000000e")
_LARGE_EXPONENT = b"0e000"
_BEFORE_NUMBERS = b":[, \t\r\n"
_LOOKALIKES = 1_000  # candidates that are examined; with more, the exact check is cheaper
_LONG = b"0" * 200  # fewer digits with an exponent of two digits stay below 1e299

_in_strings = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL).sub
_numbers = re.compile(rb"-?\d++(?:\.\d++)?(?:[eE][+-]?\d++)?").findall


def may_overflow(raw: bytes) -> bool:
    """Check whether a number in `raw` might exceed a double; false is certain."""
    shapes = raw.translate(_SHAPES)
    if _LONG in shapes:
        return True
    at = -1
    for _ in range(_LOOKALIKES):
        at = shapes.find(_LARGE_EXPONENT, at + 1)
        if at < 0:
            return False
        # hexadecimal ids look the same; a number follows white space or JSON punctuation
        before = shapes[max(0, at - len(_LONG)) : at].rstrip(b"0.-")
        if before[-1:] in _BEFORE_NUMBERS:
            return True
    return True


def overflows(raw: bytes) -> bool:
    """Check whether well-formed JSON contains a number that exceeds a double; plain integers do not count."""
    return any(
        isinf(float(number))
        for number in _numbers(_in_strings(b"", raw))
        if not number.lstrip(b"-").isdigit()
    )
