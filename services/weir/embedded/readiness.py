"""Readiness probes: of an HTTP endpoint, or of a Kafka broker."""

import asyncio
import ssl
import struct
from urllib.parse import urlsplit

PROBE_SECONDS = 2.0

# The smallest request that Kafka answers (ApiVersions, version 0, no client id): length 10, key 18,
# version 0, correlation id 7, a null string. A broker reads requests only once its start is complete.
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 7, -1)
CORRELATION = struct.pack(">i", 7)


async def is_ready(address: str) -> bool:
    """Check whether `http(s)://host:port/path` answers 200, or the broker at `kafka://host:port` answers.

    An empty address counts as ready: there is nothing to probe, so a running process is enough.
    """
    if not address:
        return True
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 80
    if parts.scheme == "kafka":
        question, wanted = API_VERSIONS, CORRELATION
    else:
        question = f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode()
        wanted = b" 200"
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return wanted in await _ask(host, port, question, parts.scheme == "https")
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


async def _ask(host: str, port: int, question: bytes, tls: bool) -> bytes:
    """Return the first twelve bytes of the answer: an HTTP status line up to its code, or a Kafka header."""
    # unverified: a local process, whose certificate need not name this address; no secret is sent
    context = ssl._create_unverified_context() if tls else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(question)
        return await reader.readexactly(12)
    finally:
        writer.close()
