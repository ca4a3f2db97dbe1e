"""Refuse requests of foreign web pages at every route, and let no page use a response."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from services.runtime.browsers import RESPONSE_HEADERS, refuse_foreign_page
from services.warehouse.answers import error_response
from services.warehouse.errors import ACCESS_DENIED, refusal


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
