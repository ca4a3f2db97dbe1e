"""Refuse requests of foreign web pages at every route, and let no page use a response."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from weir.embedded.clickhouse.errors import ACCESS_DENIED, refusal
from weir.embedded.clickhouse.responses import error_response
from weir.runtime.browser_requests import RESPONSE_HEADERS, refuse_foreign_page


def middleware(loopback_only: bool) -> Middleware:
    """`loopback_only`: there is no password, so only requests to loopback names are answered."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = refuse_foreign_page(lambda name: request.headers.getall(name, ()), loopback_only)
        if why is not None:
            return error_response(refusal(ACCESS_DENIED, why), None)
        return await handler(request)

    return refuse


async def protect(_: web.Request, response: web.StreamResponse) -> None:
    """A signal: called before any response, also an error's or a stream's, is sent."""
    response.headers.update(RESPONSE_HEADERS)
