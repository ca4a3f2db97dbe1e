"""Responses like those of a ClickHouse server: headers, encodings, and errors in the middle of a result."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import hdrs, web

from weir.embedded.clickhouse import encodings
from weir.embedded.clickhouse.engine import QueryOutcome
from weir.embedded.clickhouse.errors import AUTHENTICATION_FAILED, EngineError
from weir.embedded.clickhouse.requests import QueryRequest
from weir.embedded.clickhouse.results import content_type

# Up to this size content is compressed on the event loop: handing it to a thread costs more.
_PACK_INLINE_BYTES = 1 << 16
_DISPLAY_NAME = "weir"


class Pieces(Protocol):
    async def take(self) -> QueryOutcome | None: ...


class CutOff(Exception):  # noqa: N818  # reported to the client
    """A response ended early, after it had begun; the connection is closed."""

    def __init__(self, response: web.StreamResponse, query_id: str, reason: str) -> None:
        super().__init__(reason)
        self.response = response
        self.query_id = query_id
        self.reason = reason


@dataclass(frozen=True)
class EngineResponse:
    """How to answer one request."""

    request: web.Request
    ask: QueryRequest
    timezone: str
    send_seconds: float

    async def whole(self, outcome: QueryOutcome, form: str) -> web.Response:
        """Return the whole result as one response with a length."""
        headers = self._headers(form, outcome)
        content = outcome.content
        encoding = encodings.choose(self.ask.accept) if content else None
        if encoding is not None:
            headers[hdrs.CONTENT_ENCODING] = encoding
            encoder = encodings.ENCODERS[encoding]()
            content = await _pack(encoder, content) + encoder.finish()
        return web.Response(body=content, headers=headers)

    async def flow(self, first: QueryOutcome, rest: Pieces, form: str) -> web.StreamResponse:
        """Send a result piece by piece. `CutOff` if it could not be sent to its end.

        An error on the way is written into the stream, then the connection is cut. So a client
        that reads ClickHouse's error block and a client that does not both see that the result is
        incomplete.
        """
        tag = secrets.token_hex(8)
        headers = self._headers(form, first) | {"X-ClickHouse-Exception-Tag": tag}
        encoding = encodings.choose(self.ask.accept)
        encoder = encodings.ENCODERS[encoding]() if encoding is not None else None
        if encoding is not None:
            headers[hdrs.CONTENT_ENCODING] = encoding
        response = web.StreamResponse(headers=headers)
        await response.prepare(self.request)
        piece: QueryOutcome | None = first
        try:
            while piece is not None:
                await self._send(response, encoder, piece.content)
                piece = await rest.take()
        except EngineError as fault:
            await self._send(response, encoder, _error_block(fault, tag))
            await self._finish(response, encoder)
            if self.request.transport is not None:
                self.request.transport.close()
            raise CutOff(response, self.ask.query_id, f"error {fault.code}") from None
        await self._finish(response, encoder)
        await response.write_eof()
        return response

    async def _send(
        self, response: web.StreamResponse, encoder: encodings.Encoder | None, content: bytes
    ) -> None:
        packed = content if encoder is None else await _pack(encoder, content)
        if packed:
            try:
                async with asyncio.timeout(self.send_seconds):
                    await response.write(packed)
            except TimeoutError:
                if self.request.transport is not None:
                    self.request.transport.abort()
                raise CutOff(response, self.ask.query_id, "the client reads too slowly") from None

    async def _finish(
        self, response: web.StreamResponse, encoder: encodings.Encoder | None
    ) -> None:
        if encoder is not None:
            await self._send(response, None, encoder.finish())

    def _headers(self, form: str, outcome: QueryOutcome) -> dict[str, str]:
        summary = {
            "read_rows": str(outcome.read_rows),
            "read_bytes": str(outcome.read_bytes),
            "written_rows": str(outcome.written_rows),
            "written_bytes": str(outcome.written_bytes),
            "total_rows_to_read": "0",
            "result_rows": str(outcome.result_rows),
            "result_bytes": str(len(outcome.content)),
            "elapsed_ns": str(int(outcome.seconds * 1e9)),
        }
        return {
            hdrs.CONTENT_TYPE: content_type(form),
            "X-ClickHouse-Format": form,
            "X-ClickHouse-Query-Id": self.ask.query_id,
            "X-ClickHouse-Server-Display-Name": _DISPLAY_NAME,
            "X-ClickHouse-Summary": msgspec.json.encode(summary).decode(),
            "X-ClickHouse-Timezone": self.timezone,
        }


def error_response(fault: EngineError, ask: QueryRequest | None) -> web.Response:
    """Return an error response: ClickHouse's code in a header, the text as the body, the matching status."""
    headers = {
        "X-ClickHouse-Exception-Code": str(fault.code),
        "X-ClickHouse-Server-Display-Name": _DISPLAY_NAME,
    }
    if ask is not None:
        headers["X-ClickHouse-Query-Id"] = ask.query_id
    if fault.code == AUTHENTICATION_FAILED:
        headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="ClickHouse"'
    if fault.status == 503:
        headers[hdrs.RETRY_AFTER] = "1"
    return web.Response(status=fault.status, text=fault.text + "\n", headers=headers)


def _error_block(fault: EngineError, tag: str) -> bytes:
    text = fault.text.encode() + b"\n"
    mark = tag.encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        mark,
        text,
        len(text),
        mark,
    )


async def _pack(encoder: encodings.Encoder, content: bytes) -> bytes:
    if len(content) <= _PACK_INLINE_BYTES:
        return encoder.write(content)
    return await asyncio.to_thread(encoder.write, content)
