"""Requests to try: golden examples with bodies, headers and paths spoilt, compressed, or blown up."""

import base64

from hypothesis import strategies as st

from tests.fuzz.bodies import bodies, cut, events, flip, tokens, values
from tests.fuzz.golden import BODIES, COMPRESS, HEADERS, METHODS, PATHS, SEEDS, Sent
from tests.fuzz.sources import KEY, PAGE, READ_KEY
from weir.gateway.ingest.validation import MAX_EVENT_BYTES

WITH_BODY = [seed for seed in SEEDS if seed.body]

_header_text = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=40
)
_odd_headers = st.sampled_from(
    [
        ("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer"), ("Authorization", "Basic ÿ"),
        ("Authorization", "Basic " + base64.b64encode(KEY.encode()).decode()), ("X-Weir-Key", "ü" * 9),
        ("Authorization", f"{KEY}:x"), ("Content-Type", "application/x-ndjson"), ("Content-Type", ";;;"),
        ("Content-Type", "application/cloudevents-batch+json"), ("Content-Type", "text/plain; charset"),
        ("Content-Type", "application/json; charset=utf-16"), ("Origin", "null"), ("Origin", "https://["),
        ("Origin", PAGE), ("Cookie", f'hk_token="{READ_KEY}"; a=[];"'), ("Cookie", "=;=\\;hk_token"),
        ("Idempotency-Key", "k" * 300), ("Idempotency-Key", "ÿ\xa0"), ("Date", "Tue, 99 Foo 2026"),
        ("If-Modified-Since", "Sat, 01 Jan 99999 00:00:00 GMT"), ("X-Forwarded-For", "[::1, ,%"),
        ("ce-time", "2018-04-05T03:56:24+99:99"), ("ce-type", "%ZZ%00%FF"), ("ce-id", "%C0%80"),
        ("DNT", "1"), ("Expect", "100-continue"), ("Expect", "200-maybe"), ("Accept", "*/*;q=x"),
        ("Connection", "close"), ("Upgrade", "websocket"), ("User-Agent", "x" * 3_000),
    ]
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """A golden example, its body spoilt, sometimes its headers and its path too."""
    seed = draw(st.sampled_from(SEEDS))
    body = draw(bodies(seed.body)) if seed.body or draw(st.booleans()) else b""
    headers, path, method = dict(seed.headers), seed.path, seed.method
    how = draw(st.integers(0, 9))
    if how < 3:
        name = draw(st.sampled_from(HEADERS))
        added = [draw(_odd_headers), (name, draw(_header_text).strip())]
        headers |= dict(added[: draw(st.integers(1, 2))])
    elif how == 3 and headers:
        del headers[draw(st.sampled_from(sorted(headers)))]
    elif how == 4:
        path = draw(paths(path))
    elif how == 5:
        method = draw(st.sampled_from(METHODS))
    elif how == 6:
        path = draw(st.sampled_from(PATHS))
    sign = seed.sign if how != 7 else ""
    return Sent(method, path, tuple(headers.items()), body, sign, draw(st.booleans()))


def odd_events() -> st.SearchStrategy[Sent]:
    """One event that mostly is taken, and so has to be stored."""
    key = (("X-Weir-Key", KEY),)
    return events().map(lambda event: Sent("POST", "/v1/events", key, event))


@st.composite
def paths(draw: st.DrawFn, seed: str) -> str:
    """A path with something put into it that may stand in a request line."""
    odd = ["%00", "%ff", "%C0%AF", "%", "%2F", "..", "//", ";", "?", "&key=", "&from=9", "=", "#", "+",
           "&to=9999-12-31T23:59:59Z", "&from=0001-01-01", "&interval=year", "&profile_less=maybe",
           "%ED%A0%80", "ü", "[", "]", "{", "|", "\\", "x" * 300, "&goal_id=x", "&source=", "@", ":"]  # fmt: skip
    at = draw(st.integers(1, len(seed)))
    return seed[:at] + draw(st.sampled_from(odd)) + seed[at + draw(st.integers(0, 3)) :]


@st.composite
def compressed(draw: st.DrawFn) -> Sent:
    """A compressed body, whole, damaged, of the wrong kind, nested, or several in a row."""
    encoding = draw(st.sampled_from(sorted(COMPRESS)))
    seed = draw(st.sampled_from(WITH_BODY))
    plain = draw(bodies(seed.body))
    body = COMPRESS[encoding](plain)
    for _ in range(draw(st.integers(0, 2))):
        how = draw(st.integers(0, 5))
        if how == 0:
            body = flip(draw, body)
        elif how == 1:
            body = cut(draw, body)
        elif how == 2:
            body = COMPRESS[encoding](body)
        elif how == 3:
            body += COMPRESS[draw(st.sampled_from(sorted(COMPRESS)))](plain)
        elif how == 4:
            body += draw(st.binary(max_size=20))
        else:
            body = body + COMPRESS[encoding](b"") * draw(st.sampled_from((1, 99, 3_000)))
    said = draw(
        st.just(encoding)
        | st.sampled_from([*COMPRESS, "", "gzip, gzip", "GZIP ", "x-gzip", "identity"])
    )
    headers = dict(seed.headers) | {"Content-Encoding": said}
    return Sent(
        seed.method, seed.path, tuple(headers.items()), body, seed.sign, draw(st.booleans())
    )


UNITS = [b"[", b"]", b"{", b"}", b'"', b"\\", b"\\u", b"\\ud800", b"\n", b" ", b",", b"N", b"0e0", b"0e000,",
         b"\\\\", b'\\"', b"$", b"ss_", b"NaN", b"NaN,", b"\xc3\xbc", b"%", b"1e999,", b"'", b"//"]  # fmt: skip


@st.composite
def large(draw: st.DrawFn, cap: int) -> Sent:
    """Some bytes over and over, up to a cap: what takes more than linear time, takes it here."""
    seed = draw(st.sampled_from(WITH_BODY))
    body = seed.body
    unit = draw(
        st.sampled_from(UNITS)
        | values.filter(lambda value: len(value) < 100)
        | st.sampled_from(BODIES[:80])
        | st.binary(min_size=1, max_size=4)
    )
    room = draw(st.sampled_from((MAX_EVENT_BYTES, cap))) - len(body) - 100
    found = list(tokens(body))
    one = draw(st.sampled_from(found)) if found else None
    how = draw(st.integers(0, 4))
    if how == 0 or one is None:
        at = draw(st.integers(0, len(body)))
        filled = body[:at] + unit * (room // len(unit)) + body[at:]
    elif how == 4:  # whole events, as many as may be
        times = min(2_000, room // (len(body) + 1))
        filled = b"[" + b",".join([body] * max(1, times)) + b"]"
    else:
        if how == 1:
            inner = b'"' + unit * (room // len(unit)) + b'"'
        elif how == 2:
            inner = b"[" + b",".join([unit] * (room // (len(unit) + 1))) + b"]"
        else:
            times = room // (len(unit) + 9)
            inner = b"{" + b",".join(b'"%x":%b' % (n, unit) for n in range(times)) + b"}"
        filled = body[: one.start()] + inner + body[one.end() :]
    return Sent(seed.method, seed.path, seed.headers, filled, seed.sign)
