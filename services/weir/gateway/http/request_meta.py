"""A request as doors see it. Plain values."""

from collections.abc import Mapping

from msgspec import Struct

from weir.gateway.http import request_headers


class RequestMeta(Struct, frozen=True):
    """A request less its body."""

    method: str
    path: str
    query: str  # as it stands in the request; empty: none
    parts: Mapping[str, str]  # what stands in the path where the route has {name}; decoded
    headers: request_headers.Headers
    address: str  # of the client; empty: unknown
    now_ms: int
    target: str = ""  # path and query as they were sent, for senders that sign them
