"""Numbers that are JSON, but that ClickHouse's JSON type refuses: those beyond a double. Pure.

Integers without a fraction or an exponent are not among them: of any length they are stored as text.
"""

import re
from math import isinf

# Digits and the sign of an exponent look alike, so that one search finds what needs a closer look.
_SHAPES = bytes.maketrans(b"123456789+E", b"0000000000e")
_LARGE_EXPONENT = b"0e000"
_BEFORE_NUMBERS = b":[, \t\r\n"
_LOOKALIKES = 1_000  # at most are told apart; with more, the closer look is cheaper
_LONG = b"0" * 200  # with less, and an exponent of two digits, a number is below 1e299

_in_strings = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL).sub
_numbers = re.compile(rb"-?\d++(?:\.\d++)?(?:[eE][+-]?\d++)?").findall


def may_overflow(raw: bytes) -> bool:
    """Whether a number in it might be beyond a double; false is certain."""
    shapes = raw.translate(_SHAPES)
    if _LONG in shapes:
        return True
    at = -1
    for _ in range(_LOOKALIKES):
        at = shapes.find(_LARGE_EXPONENT, at + 1)
        if at < 0:
            return False
        # ids in hex digits look alike; numbers follow a space or one of JSON's own marks
        before = shapes[max(0, at - len(_LONG)) : at].rstrip(b"0.-")
        if before[-1:] in _BEFORE_NUMBERS:
            return True
    return True


def overflows(raw: bytes) -> bool:
    """Whether well-formed JSON holds a number beyond a double, an integer written out aside."""
    return any(
        isinf(float(number))
        for number in _numbers(_in_strings(b"", raw))
        if not number.lstrip(b"-").isdigit()
    )
