"""What hostile or broken clients make of a body: JSON that is none, or that is more than meant."""

import json
import re

import msgspec
from hypothesis import strategies as st

from tests.fuzz.golden import BODIES, NAMES

# JSON, or nearly: what parsers, Avro and ClickHouse have each stumbled over.
HOSTILE = [
    b"NaN", b"-Infinity", b"Infinity", b"1e400", b"-1e400", b"1e-400", b"1" + b"0" * 400, b"-0",
    b"-0.0", b"0e0", b"1E+308", b"1.7976931348623157e308", b"1.7976931348623159e308",
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616",
    b"-9223372036854775809", b"01", b"1.", b".5", b"+1", b"1e", b"0x10", b"1_0",
    b"0." + b"9" * 5_000, b"1" * 5_000, b"5e-324", b"0.1e-5000", b"1e5000",
    b"null", b"true", b"false", b"{}", b"[]", b"[[]]", b'""', b'" "', b'"\\u0000"', b'"\\ud800"',
    b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\uD83D"', b'"\\uffff"', b'"\\u0085"',
    b'"\\u2028"', b'"\\ufeff"', b'"\xef\xbb\xbf"', b'"\xf0\x9f\x98\x80"', b'"\xed\xa0\x80"',
    b'"\xff"', b'"\xc0\x80"', b'"\x00"', b'"\n"', b'"\\x"', b'"\\"', b'"\\u12"',
    b'"2026-01-01T00:00:00Z"', b'"0000-00-00T00:00:00Z"', b'"9999-12-31T23:59:59.999Z"',
    b'"2026-02-30T00:00:00Z"', b'"2026-01-01T23:59:60Z"', b'"2026-01-01T00:00:00+24:00"',
    b'"1900-01-01T00:00:00Z"', b'"0001-01-01T00:00:00+23:59"', b"-62135596800000", b"253402300800000",
    b"1e18", b"-1e18", b"1760000000000.5", b'"$x"', b'"ss_x"', b'"\\u0024x"', b'"a b"',
    b'"%s"' % (b"x" * 300), b'"%s"' % ("ü" * 255).encode(), b'"%s"' % ("😀" * 128).encode(),
    b'"%s"' % (b"y" * 110_000), b"[" * 40 + b"]" * 40, b'{"a":' * 40 + b"1" + b"}" * 40,
    b"[" * 5_000, b'{"a":' * 5_000, b"[" * 3_000 + b"]" * 3_000, b'{"$x":1}', b'{"ss_x":{"$y":1}}',
    b'{"a":1,"a":2}', b'{"":1}', b'{"\\u0000":1}', b'{"a.b":1,"a":{"b":2}}', b'{"a\\u002eb":1}',
    b"[1,\"a\",null,{},[1.5]]", b"[{},[],{\"a\":[{}]}]", b'{"a":[1,{"b":2}],"b":[[1],["x"]]}',
    b'{"a":NaN}', b'{"a":1e400}', b'{"properties":{"a":-1e999}}', b'{"value":1e309}', b"/**/", b"//",
    b"'a'", b"undefined",
]  # fmt: skip

tokens = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null').finditer
_opens = re.compile(rb"\{").finditer
_texts = st.text(max_size=12)  # surrogates too: JSON can escape them
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_written = st.builds(
    lambda value, escaped: json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass"),
    _json,
    st.booleans(),
)
values = st.sampled_from(HOSTILE) | _written


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return len(text) < 10_000


_leaves = st.sampled_from([text for text in HOSTILE if _is_json(text)]) | st.builds(
    lambda value: json.dumps(value).encode(),
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
)
_names = st.sampled_from(NAMES) | st.sampled_from(
    [b"", b".", b"a.b", b"a", b"a.", b".a", b"a\\u0000b", b"%2E", b"a b", b"\xc3\xbc", b"A", b"`a`", b"a[]",
     b"\\\\", b"\\\"", b"properties", b"event_id", b"SharedData", b"null", b"0", b"x" * 5_000]
)  # fmt: skip


def _object(members: list[tuple[bytes, bytes]]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % member for member in members) + b"}"


def _array(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _objects_of(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Well-formed, and as odd as that allows: names twice, in all their spellings."""
    return st.lists(st.tuples(_names, inner), max_size=4).map(_object)


_sound = st.recursive(
    _leaves,
    lambda inner: _objects_of(inner) | st.lists(inner, max_size=4).map(_array),
    max_leaves=6,
)
_objects = _objects_of(_sound)


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """An event of `/v1/events`, odd in what it may be: mostly it is taken."""
    names = (b'"a"', b'"$identify"', b'"page_view"')
    members = [(b"event", draw(st.sampled_from(names)))]
    for field in (
        b"user_id",
        b"anonymous_id",
        b"profile_id",
        b"session_id",
        b"value",
        b"occurred_at",
    ):
        if draw(st.integers(0, 9)) == 0:
            members.append((field, draw(_leaves)))
    members += [(b"properties", draw(_objects)), (b"context", draw(_objects))]
    return _object(members)


def _replace(draw: st.DrawFn, body: bytes) -> bytes:
    """A value, or a name, becomes something else."""
    found = list(tokens(body))
    if not found:
        return body
    one = draw(st.sampled_from(found))
    return body[: one.start()] + draw(values) + body[one.end() :]


def _add_member(draw: st.DrawFn, body: bytes) -> bytes:
    """An object gets one more member, which may be there already."""
    found = list(_opens(body))
    if not found:
        return body
    at: int = draw(st.sampled_from(found)).end()
    comma = b"" if body[at : at + 1] == b"}" else b","
    name: bytes = draw(st.sampled_from(NAMES))
    return body[:at] + b'"' + name + b'":' + draw(values) + comma + body[at:]


def flip(draw: st.DrawFn, body: bytes) -> bytes:
    at = draw(st.integers(0, len(body)))
    put = draw(st.binary(max_size=3))
    return body[:at] + put + body[at + draw(st.integers(0, 3)) :]


def cut(draw: st.DrawFn, body: bytes) -> bytes:
    return body[: draw(st.integers(0, len(body)))]


def _splice(draw: st.DrawFn, body: bytes) -> bytes:
    other = draw(st.sampled_from(BODIES))
    start, end = sorted(draw(st.tuples(st.integers(0, len(other)), st.integers(0, len(other)))))
    at = draw(st.integers(0, len(body)))
    return body[:at] + other[start:end] + body[at:]


def _repeat(draw: st.DrawFn, body: bytes) -> bytes:
    """A slice several times over; within the caps, or beyond them."""
    start, end = sorted(draw(st.tuples(st.integers(0, len(body)), st.integers(0, len(body)))))
    times = draw(st.sampled_from((2, 3, 40, 2_100)))
    return body[:start] + body[start:end] * min(times, 300_000 // (end - start + 1)) + body[end:]


def _wrap(draw: st.DrawFn, body: bytes) -> bytes:
    front, back = draw(
        st.sampled_from(
            [
                (b"[", b"]"),
                (b"[null,", b"]"),
                (b'{"events":[', b"]}"),
                (b'{"context":{"a":{"b":1}},"events":[', b"]}"),
                (b'{"batch":[', b"]}"),
                (b'{"event":"x","properties":', b"}"),
                (b'{"event":"$identify","user_id":"u","properties":', b"}"),
                (b"\xef\xbb\xbf", b""),
                (b" \r\n\t", b"\n\r "),
                (b"\x00", b"\x00"),
                (b'"', b'"'),
            ]
        )
    )
    return bytes(front) + body + bytes(back)


def _lines(draw: st.DrawFn, body: bytes) -> bytes:
    """Several bodies, a line each, whatever ends their lines."""
    lines = draw(st.lists(st.sampled_from([body, *BODIES[:60]]), min_size=1, max_size=4))
    ends = [b"\n", b"\r\n", b"\r", b"\n\n", "\u2028".encode(), b"\x0b", b" \n "]
    return body + b"".join(draw(st.sampled_from(ends)) + line for line in lines)


def _encode(draw: st.DrawFn, body: bytes) -> bytes:
    text = body.decode(errors="replace")
    return text.encode(draw(st.sampled_from(["utf-16", "utf-32", "latin-1", "utf-7"])), "replace")


MUTATIONS = (
    _replace, _replace, _replace, _add_member, _add_member, flip, cut, _splice, _repeat, _wrap,
    _lines, _encode,
)  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn, seed: bytes) -> bytes:
    """A body with up to three things done to it."""
    body = seed
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), max_size=3)):
        body = mutate(draw, body)[:3_000_000]
    return body
