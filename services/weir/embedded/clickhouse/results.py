"""Streams results from an engine thread to a response; knows which formats can be streamed."""

import asyncio
from collections.abc import Iterator
from typing import Generic, TypeVar

from weir.embedded.clickhouse.engine import QueryOutcome
from weir.embedded.clickhouse.errors import LOGICAL_ERROR, EngineError

# The engine renders each piece of a stream as a separate document. In these formats, such pieces
# one after the other are the same as the whole result.
_STREAMED = {
    *("native", "rowbinary", "csv", "tsv", "tabseparated", "tsvraw", "tabseparatedraw"),
    *("jsoneachrow", "jsonlines", "ndjson", "jsoncompacteachrow", "jsonstringseachrow", "raw"),
    *("jsoncompactstringseachrow", "lineasstring", "null", "customseparated"),
}
# The same, except that every piece repeats the line of column names.
_STREAMED_WITH_NAMES = {"csvwithnames", "tsvwithnames", "tabseparatedwithnames"}

_CONTENT_TYPES = (
    ("jsoneachrow", "application/x-ndjson; charset=UTF-8"),
    ("json", "application/json; charset=UTF-8"),
    ("csv", "text/csv; charset=UTF-8; header=absent"),
    ("tsv", "text/tab-separated-values; charset=UTF-8"),
    ("tabseparated", "text/tab-separated-values; charset=UTF-8"),
    ("xml", "application/xml; charset=UTF-8"),
    *((name, "application/octet-stream") for name in ("native", "rowbinary", "parquet", "arrow")),
    *((name, "application/octet-stream") for name in ("avro", "orc", "protobuf", "msgpack")),
)


def content_type(form: str) -> str:
    name = form.lower()
    if name == "csvwithnames":
        return "text/csv; charset=UTF-8; header=present"
    return next((kind for start, kind in _CONTENT_TYPES if name.startswith(start)), "text/plain")


def flows(form: str) -> bool:
    """Check whether a result in this format can be sent piece by piece."""
    return form.lower() in _STREAMED or form.lower() in _STREAMED_WITH_NAMES


def repeats_names(form: str) -> bool:
    return form.lower() in _STREAMED_WITH_NAMES


def without_repeated_names(pieces: Iterator[QueryOutcome], form: str) -> Iterator[QueryOutcome]:
    """Drop the line of column names from all pieces but the first."""
    names: bytes | None = None
    for piece in pieces:
        if names is None:
            names = _first_line(piece.content, quoted=form.lower().startswith("csv"))
            yield piece
        else:
            content = piece.content.removeprefix(names)
            yield QueryOutcome(content, piece.read_rows, piece.read_bytes, piece.result_rows)


def _first_line(content: bytes, quoted: bool) -> bytes:
    end = content.find(b"\n") + 1
    while quoted and content.count(b'"', 0, end) % 2 and end:
        end = content.find(b"\n", end) + 1
    return content[:end] if end else content


class Abandoned(Exception):  # noqa: N818  # caused by the client
    """The reader has abandoned the result."""


T = TypeVar("T")


class Pipe(Generic[T]):
    """A bounded queue from one engine thread to the event loop; the thread waits while it is full."""

    def __init__(self, depth: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T | EngineError | None] = asyncio.Queue(depth)
        self.abandoned = False

    def feed(self, pieces: Iterator[T]) -> None:
        """Send all pieces, then the end or the error that ended them. Called in the engine thread."""
        last: EngineError | None = EngineError(LOGICAL_ERROR, "Code: 49. DB::Exception: bug")
        try:
            for piece in pieces:
                self._put(piece)
            last = None
        except EngineError as fault:
            last = fault
        finally:  # also after an unexpected exception: the reader must not wait for ever
            if not self.abandoned:
                self._put(last)

    def _put(self, item: T | EngineError | None) -> None:
        if self.abandoned:
            raise Abandoned
        asyncio.run_coroutine_threadsafe(self._queue.put(item), self._loop).result()

    async def take(self) -> T | None:
        """Return the next piece, or None at the end. Raise the `EngineError` that ended the statement."""
        item = await self._queue.get()
        if isinstance(item, EngineError):
            raise item
        return item

    def abandon(self) -> None:
        """Make the thread stop at its next piece. Called in the event loop."""
        self.abandoned = True
        while not self._queue.empty():
            self._queue.get_nowait()
