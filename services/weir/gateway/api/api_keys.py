"""Authorize requests to the API of a site by its read keys and admin keys."""

from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from aiohttp import hdrs

from weir.core.registry import Source, hash_key
from weir.gateway.http import request_headers
from weir.gateway.http.error_codes import Problem

COOKIE = "hk_token"


def api_key_of(headers: request_headers.Headers, query: str) -> str:
    """Return the first key of `Authorization: Bearer`, `X-Weir-Key`, `X-Api-Key`, `?key=` and the cookie, or "".

    A browser sends the cookie whatever page makes the request, so it does not count for a page of another host.
    """
    authorization = headers.get(hdrs.AUTHORIZATION, "")
    if authorization[:7].lower() == "bearer ":
        return request_headers.clean(authorization[7:].strip())
    for name in ("X-Weir-Key", "X-Api-Key"):
        if name in headers:
            return request_headers.clean(headers[name].strip())
    if keys := parse_qs(query).get("key"):
        return request_headers.clean(keys[0])
    page = headers.get(hdrs.ORIGIN)
    if page is not None and _host_of(page) != headers.get(hdrs.HOST, ""):
        return ""
    return request_headers.clean(_cookie(headers.get(hdrs.COOKIE, "")))


def _host_of(page: str) -> str | None:
    try:
        return urlsplit(page).netloc
    except ValueError:
        return None


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def refuse_access(
    key: str, site_id: str, administers: bool, sources: Collection[Source]
) -> Problem | None:
    """Return why a key may not read (or administer) a site; None if it may.

    A key of some source without this right is `forbidden`; any other key is `unauthorized`.
    """
    digest = hash_key(key) if key else ""
    site = next((source for source in sources if source.id == site_id), None)
    if site is not None and site.enabled:
        if digest in site.admin_key_hashes:
            return None
        if digest in site.read_key_hashes:
            return Problem("forbidden", "This key can only read.") if administers else None
    if any(digest in source.key_hashes for source in sources if source.enabled):
        return Problem("forbidden", "The key is not one of the site's read_keys or admin_keys.")
    return Problem(
        "unauthorized",
        "Send a key of the site as `Authorization: Bearer`, `X-Weir-Key`, `X-Api-Key`, `?key=` or"
        f" the cookie `{COOKIE}`.",
    )
