"""HTTP client of Weir's gateway, with aiohttp: one request, one response, no retries."""

import gzip
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

REQUEST_SECONDS = 60


class GatewayUnreachableError(Exception):
    """No response came: nothing listens, or the connection broke. It is unknown whether the events were accepted."""


class RejectedEvent(msgspec.Struct, frozen=True):
    """One event that the gateway rejected, by its index in the request."""

    index: int
    code: str = ""
    field: str | None = None
    message: str = ""


class _GatewayReply(msgspec.Struct):
    accepted: int = 0
    rejected: list[RejectedEvent] = []
    title: str = ""
    detail: str = ""


@dataclass(frozen=True)
class GatewayResponse:
    """The gateway's response to one request."""

    status: int
    accepted: int
    rejected: list[RejectedEvent]
    problem: str  # title and detail of the problem; empty: none
    retry_after: float  # seconds; 0: not given


class GatewayClient:
    """Posts batches to `/v1/events` over persistent connections."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        connections: int,
        compress: bool = False,
        ca_file: Path | None = None,
    ) -> None:
        """`ca_file`: CA certificates (PEM) for an https gateway; None: the system's authorities."""
        self._address = url.rstrip("/") + "/v1/events"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if compress:
            self._headers["Content-Encoding"] = "gzip"
        self._compress = compress
        self._connections = connections
        self._trust = ssl.create_default_context(cafile=ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._trust),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            headers=self._headers,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, body: bytes) -> GatewayResponse:
        """Send once. `GatewayUnreachableError` if no complete response came back."""
        assert self._session is not None, "use it as a context manager"
        sent = gzip.compress(body, 1) if self._compress else body
        try:
            async with self._session.post(self._address, data=sent) as response:
                text = await response.read()
                header = response.headers.get("Retry-After", "")
                return _answer(response.status, text, header)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise GatewayUnreachableError(_reason(self._address, error)) from None


def _reason(address: str, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"the certificate of {address} is not trusted; set WEIR_GATEWAY_CA_FILE, and use the"
            " gateway's name in the certificate (WEIR_GATEWAY_URL)"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"nothing answers at {address}; is `weir up` (or `weir gateway`) running?"
    if isinstance(error, TimeoutError):
        return f"no answer from {address} within {REQUEST_SECONDS} s"
    return f"the connection to {address} broke ({type(error).__name__})"


def _answer(status: int, text: bytes, retry_after: str) -> GatewayResponse:
    try:
        reply = msgspec.json.decode(text, type=_GatewayReply)
    except msgspec.DecodeError:  # perhaps a proxy's page: only the status counts
        reply = _GatewayReply()
    problem = ": ".join(filter(None, (reply.title, reply.detail)))
    seconds = float(retry_after) if retry_after.strip().isdigit() else 0.0
    return GatewayResponse(status, reply.accepted, reply.rejected, problem, seconds)
