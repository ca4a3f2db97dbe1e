"""Connections to try: requests in a row, their heads or chunks spoilt, in pieces cut anywhere."""

import re

from hypothesis import strategies as st

from tests.fuzz.bodies import cut
from tests.fuzz.inputs import requests
from tests.fuzz.sources import KEY


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The pieces of a connection: requests in a row, some spoilt on the wire, cut anywhere."""
    raws = [one.raw() for one in draw(st.lists(requests(), min_size=1, max_size=4))]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raws) - 1))
        raws[at] = draw(spoilt(raws[at]))
    raw = b"".join(raws)
    if draw(st.booleans()):
        raw = cut(draw, raw)
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b] or [
        b"\r"
    ]


WIRE = [
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding : chunked\r\n", b"Content-Length: +5\r\n",
    b"Content-Length: 0x5\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length:\r\n", b"Content-Length: \xb2\r\n", b"Connection: close\r\n", b"Host: y\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"A\x00: b\r\n",
    b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b" folded: x\r\n", b": x\r\n", b"X\r\n", b"X: \xff\xfe\r\n", b"X: a\rb\r\n", b"X: a\nb: c\r\n",
    b"X: " + b"x" * 9_000 + b"\r\n", b"".join(b"X%d: x\r\n" % n for n in range(140)),
    b"X-Weir-Key: " + KEY.encode() + b"\r\n",
]  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, raw: bytes) -> bytes:
    """A request with its head spoilt, or its chunks."""
    line_end = raw.find(b"\r\n") + 2
    how = draw(st.integers(0, 5))
    if how <= 1:
        return raw[:line_end] + draw(st.sampled_from(WIRE)) + raw[line_end:]
    if how == 2:
        at = draw(st.integers(0, min(len(raw), 300)))
        return raw[:at] + draw(st.binary(max_size=3)) + raw[at + draw(st.integers(0, 2)) :]
    if how == 3:
        versions = [
            b"HTTP/1.0",
            b"HTTP/2.0",
            b"HTTP/0.9",
            b"HTTP/1.1 ",
            b"HTTP/9.9",
            b"",
            b"HTCPCP/1.0",
        ]
        return raw.replace(b"HTTP/1.1", draw(st.sampled_from(versions)), 1)
    if how == 4:
        firsts = [b"GET http://[::1/ ", b"GET http://a:b@c:99999/v1/events ", b"CONNECT x:1 ", b"OPTIONS * ",
                  b"PRI * ", b"GET \xff ", b"G\x00T / ", b"GET  / ", b"post /v1/events "]  # fmt: skip
        return draw(st.sampled_from(firsts)) + raw[max(0, raw.find(b"HTTP/1.1")) :]
    sizes = [
        b"-1",
        b"zz",
        b"",
        b"0x5",
        b"5 ",
        b"FFFFFFFFFFFFFFFF",
        b"5;" + b"x" * 9_000,
        b"5\n",
        b"1\r",
    ]
    at = raw.find(b"\r\n\r\n") + 4
    head = raw[: at - 2] + b"Transfer-Encoding: chunked\r\n\r\n"
    head = re.sub(rb"Content-Length: \d+\r\n", b"", head)
    return head + draw(st.sampled_from(sizes)) + b"\r\nabcde\r\n0\r\n\r\n"
