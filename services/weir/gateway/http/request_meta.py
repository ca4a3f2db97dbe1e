"""The request that doors see, as plain values."""

from collections.abc import Mapping

from msgspec import Struct

from weir.gateway.http import request_headers


class RequestMeta(Struct, frozen=True):
    """A request without its body."""

    method: str
    path: str
    query: str  # as in the request; empty: none
    parts: Mapping[str, str]  # the path's parts by the {name} in the route; decoded
    headers: request_headers.Headers
    address: str  # the client's; empty: unknown
    now_ms: int
    target: str = ""  # path and query as sent, for senders that sign them
