"""Middleware that refuses requests of foreign web pages at every route, and lets no page use a response."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from weir.embedded.clickhouse.errors import ACCESS_DENIED, refusal
from weir.embedded.clickhouse.responses import error_response
from weir.runtime.browser_requests import RESPONSE_HEADERS, refuse_foreign_page


def middleware(loopback_only: bool) -> Middleware:
    """Return the middleware. `loopback_only`: no password is set, so only loopback names are answered."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = refuse_foreign_page(lambda name: request.headers.getall(name, ()), loopback_only)
        if why is not None:
            return error_response(refusal(ACCESS_DENIED, why), None)
        return await handler(request)

    return refuse


async def protect(_: web.Request, response: web.StreamResponse) -> None:
    """Add protective headers. A signal handler, called before any response is sent, also errors and streams."""
    response.headers.update(RESPONSE_HEADERS)
