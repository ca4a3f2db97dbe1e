"""Rules of HTTP that senders and proxies rely on: what each connection sends, and how it is answered.

Whoever disagrees with a proxy about where a request ends lets one client speak in another's name, so
whatever has two ends is refused, and the connection with it (RFC 9112, 6.3 and 11.2).
"""

from tests.fuzz.sources import KEY

GOOD = b'{"event":"good"}'
BAD = b'{"event":"b d" }'
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKS = b"10\r\n" + GOOD + b"\r\n0\r\n\r\n"


def post(*lines: bytes) -> bytes:
    """The head of a request for events with these lines in it."""
    first = (b"POST /v1/events HTTP/1.1", b"Host: x", b"X-Weir-Key: " + KEY.encode())
    return b"\r\n".join((*first, *lines)) + b"\r\n\r\n"


SIZED = b"Content-Length: 16"
CHUNKED = b"Transfer-Encoding: chunked"
ONE = post(SIZED) + GOOD
REFUSED = [400]

# By name: the bytes, which a request for /livez follows, and the statuses of all answers in order.
RULES: dict[str, tuple[bytes, list[int]]] = {
    "many in a packet": (ONE * 50, [202] * 50 + [200]),
    "good and bad in a packet": (ONE + post(SIZED) + BAD + ONE, [202, 422, 202, 200]),
    "blank lines before a request": (b"\r\n\r\n", [200]),
    "a blank line behind a body": (ONE + b"\r\n", [202, 200]),
    "a body and a length of zeros": (post(b"Content-Length: 0016") + GOOD, [202, 200]),
    "chunks": (post(CHUNKED) + CHUNKS, [202, 200]),
    "chunks, in any case": (post(b"transfer-encoding: CHUNKED") + CHUNKS, [202, 200]),
    "a chunk's extension": (post(CHUNKED) + CHUNKS.replace(b"10", b'10;a="b"', 1), [202, 200]),
    "trailers": (post(CHUNKED) + CHUNKS[:-2] + b"X: y\r\n\r\n", [202, 200]),
    "length and chunks": (post(SIZED, CHUNKED) + CHUNKS, REFUSED),
    "chunks and length": (post(CHUNKED, SIZED) + CHUNKS, REFUSED),
    "two lengths": (post(SIZED, b"Content-Length: 5") + GOOD, REFUSED),
    "one length twice": (post(SIZED, SIZED) + GOOD, REFUSED),
    "a list of lengths": (post(b"Content-Length: 16, 16") + GOOD, REFUSED),
    "a length with a sign": (post(b"Content-Length: +16") + GOOD, REFUSED),
    "a negative length": (post(b"Content-Length: -16") + GOOD, REFUSED),
    "a length in hex": (post(b"Content-Length: 0x10") + GOOD, REFUSED),
    "a length with a gap": (post(b"Content-Length: 1 6") + GOOD, REFUSED),
    "no length": (post(b"Content-Length:") + GOOD, REFUSED),
    "a length beyond numbers": (post(b"Content-Length: 99999999999999999999") + GOOD, REFUSED),
    "a length beyond the cap": (post(b"Content-Length: 9223372036854775808") + GOOD, [413]),
    "chunked twice": (post(CHUNKED, CHUNKED) + CHUNKS, REFUSED),
    "chunked, chunked": (post(CHUNKED + b", chunked") + CHUNKS, REFUSED),
    "something like chunked": (post(b"Transfer-Encoding: xchunked") + CHUNKS, REFUSED),
    "identity": (post(b"Transfer-Encoding: identity"), REFUSED),
    "a space before the colon": (post(b"Transfer-Encoding : chunked") + CHUNKS, REFUSED),
    "a folded line": (post(b"X: y", b" Content-Length: 16") + GOOD, REFUSED),
    "a bare CR in a header": (post(b"X: y\rContent-Length: 16") + GOOD, REFUSED),
    "a bare LF as line end": (ONE.replace(b"\r\n", b"\n"), REFUSED),
    "a NUL in a header": (post(b"X: \0"), REFUSED),
    "a NUL in a header's name": (post(b"X\0: y"), REFUSED),
    "a header without a colon": (post(b"X"), REFUSED),
    "a header without a name": (post(b": x"), REFUSED),
    "a negative chunk": (post(CHUNKED) + b"-1\r\n", REFUSED),
    "a chunk size with 0x": (post(CHUNKED) + CHUNKS.replace(b"10", b"0x10", 1), REFUSED),
    "a chunk size beyond numbers": (post(CHUNKED) + b"F" * 17 + b"\r\n", REFUSED),
    "a chunk longer than its size": (post(CHUNKED) + CHUNKS.replace(b"10", b"5", 1), REFUSED),
    "chunks with bare LFs": (post(CHUNKED) + CHUNKS.replace(b"\r\n", b"\n"), REFUSED),
    "endless trailers": (post(CHUNKED) + CHUNKS[:-2] + b"X: y\r\n" * 5_000, [431]),
    "two hosts": (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", REFUSED),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", REFUSED),
    "a long path": (b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [414]),
    "a long header": (post(b"X: " + b"x" * 1_000_000), [431]),
    "many headers": (post(*[b"X: y"] * 20_000), [431]),
    "no URL": (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", REFUSED),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), REFUSED),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
    "HTTP/0.9": (b"GET /livez\r\n", REFUSED),
    "no method": (b"\xff\xff\xff\xff", REFUSED),
    "a method in lower case": (b"post /v1/events HTTP/1.1\r\nHost: x\r\n\r\n", REFUSED),
    "HTTP/1.0, kept alive": (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200, 200]),
    "a whole URL": (ONE.replace(b" /v1", b" http://x/v1"), [202, 200]),
    "the server itself": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", [404, 200]),
    "a tunnel": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", [404, 200]),
    "TRACE": (b"TRACE /livez HTTP/1.1\r\nHost: x\r\n\r\n", [405, 200]),
    "a web socket": (post(SIZED, b"Connection: upgrade", b"Upgrade: websocket") + GOOD, [202, 200]),
    "a GET with a body": (LAST.replace(b"Connection: close", b"Content-Length: 49") + LAST[:49], [200, 200]),
    # who has sent its body already is not asked for it (RFC 9110, 10.1.1)
    "to continue, at once": (post(SIZED, b"Expect: 100-continue") + GOOD, [202, 200]),
    "to expect something else": (post(SIZED, b"Expect: 200-ok") + GOOD, [202, 200]),
}  # fmt: skip
