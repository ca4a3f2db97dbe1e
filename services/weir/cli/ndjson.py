"""Reads NDJSON in batches of events, from a file, a .gz file or standard input.

A line is decoded only enough to see that it is a JSON object and whether it has an id or
idempotency key. An event that has one keeps its bytes.
"""

import gzip
import os
import select
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

CHUNK_BYTES = 1 << 20
MAX_BODY_BYTES = 1_500_000  # the gateway accepts 2 MiB per request
IDLE_SECONDS = 0.2  # standard input: a batch that is not full is sent after this
GZIP_MAGIC = b"\x1f\x8b"


ABSENT = (b"", b"null")


class _Ids(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()
    idempotency_key: msgspec.Raw = msgspec.Raw()


_read_ids = msgspec.json.Decoder(_Ids).decode


@dataclass
class LineBatch:
    """The events of one request, and the lines that are not JSON objects."""

    events: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # line numbers of `events`, from 1
    broken: list[tuple[int, bytes, str]] = field(default_factory=list)  # line, text, fault
    size: int = 0  # bytes of the events

    def body(self) -> bytes:
        return b"[" + b",".join(self.events) + b"]"

    def halves(self) -> tuple["LineBatch", "LineBatch"]:
        middle = len(self.events) // 2
        return (
            LineBatch(self.events[:middle], self.lines[:middle]),
            LineBatch(self.events[middle:], self.lines[middle:]),
        )


class Chunks(Protocol):
    """A source of bytes. `size` 0: unknown."""

    size: int

    def read(self) -> bytes | None:
        """Return more bytes; b"": nothing yet; None: the end."""

    def position(self) -> int: ...

    def close(self) -> None: ...


class FileChunks:
    """A file, decompressed if it begins with gzip's magic bytes."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self._raw = path.open("rb")
        packed = self._raw.peek(2)[:2] == GZIP_MAGIC
        self._stream: BinaryIO | gzip.GzipFile = (
            gzip.GzipFile(fileobj=self._raw) if packed else self._raw
        )

    def read(self) -> bytes | None:
        return self._stream.read(CHUNK_BYTES) or None

    def position(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()


class StandardInput:
    """Standard input, read with a short timeout, so that slow input is sent and Ctrl-C takes effect."""

    size = 0

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()

    def read(self) -> bytes | None:
        ready, _, _ = select.select([self._descriptor], [], [], IDLE_SECONDS)
        return os.read(self._descriptor, CHUNK_BYTES) or None if ready else b""

    def position(self) -> int:
        return 0

    def close(self) -> None:
        pass


def open_chunks(name: str) -> Chunks:
    """Open a file, or standard input for `-`. `OSError` if the file cannot be opened."""
    return StandardInput() if name == "-" else FileChunks(Path(name))


def with_id(line: bytes) -> bytes:
    """Return the event with an id, so that sending it again is safe; unchanged if it has an id or key.

    `msgspec.DecodeError` if the line is not a JSON object.
    """
    ids = _read_ids(line)
    if bytes(ids.id) not in ABSENT or bytes(ids.idempotency_key) not in ABSENT:
        return line
    if b'"id"' in line or b'"idempotency_key"' in line:  # it is null, or is nested deeper
        event = msgspec.json.decode(line)
        event.pop("idempotency_key", None)
        return msgspec.json.encode({**event, "id": str(uuid.uuid4())})
    rest = line.lstrip()[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"id":"' + str(uuid.uuid4()).encode() + b'"' + comma + rest


def batches(chunks: Chunks, limit: int) -> Iterator[LineBatch | None]:
    """Yield batches of at most `limit` lines; None if there is nothing yet, so that the caller can stop."""
    batch = LineBatch()
    for number, line in _numbered(chunks):
        if line is None:
            yield batch if batch.events or batch.broken else None
            batch = LineBatch()
            continue
        if batch.events and batch.size + len(line) > MAX_BODY_BYTES:
            yield batch
            batch = LineBatch()
        _add(batch, number, line)
        if len(batch.events) + len(batch.broken) >= limit:
            yield batch
            batch = LineBatch()
    if batch.events or batch.broken:
        yield batch


def _add(batch: LineBatch, number: int, line: bytes) -> None:
    try:
        event = with_id(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        batch.broken.append((number, line, str(error)))
        return
    batch.events.append(event)
    batch.lines.append(number)
    batch.size += len(event) + 1


def _numbered(chunks: Chunks) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number from 1, line) for every line that is not blank; the line is None for "nothing yet"."""
    rest = b""
    number = 0
    while (chunk := chunks.read()) is not None:
        if not chunk:
            yield number, None
            continue
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            if line and not line.isspace():
                yield number, line
    if rest and not rest.isspace():
        yield number + 1, rest
