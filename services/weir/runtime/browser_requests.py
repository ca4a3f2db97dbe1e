"""Recognize requests that a foreign web page makes a browser send to a port of this machine. Pure."""

import ipaddress
import re
from collections.abc import Callable, Sequence

# Headers of every response: only a page of the same origin can run, show, frame or read it.
RESPONSE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

_AUTHORITY = r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]*)?"
_HOST = re.compile(_AUTHORITY, re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://({_AUTHORITY})", re.IGNORECASE)
_REFERER = re.compile(rf"https?://({_AUTHORITY})(?:[/?#].*)?", re.IGNORECASE | re.DOTALL)
# The values of Sec-Fetch-Site for requests from a page of the same origin or from the address bar.
_OWN_SITES = {"same-origin", "none"}


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_foreign_page(values: Callable[[str], Sequence[str]], loopback_only: bool) -> str | None:
    """Return why a request must be refused, or None for programs, the user and pages of the same origin.

    `values` returns all values of a header. `loopback_only`: every client that reaches the port is
    trusted, so the Host header must name the loopback interface. Otherwise a foreign host name that
    resolves to it (DNS rebinding) would give a foreign page the same origin.
    """
    hosts = values("Host")
    host = hosts[0].strip().lower() if hosts else ""
    named = _HOST.fullmatch(host)
    if len(hosts) > 1 or (hosts and named is None):
        return "The Host header is malformed"
    if loopback_only and named is not None and not is_loopback(named[1].strip("[]")):
        return "Without a password, the Host header must be a loopback name of this machine"
    sites = values("Sec-Fetch-Site")
    if any(site.strip().lower() not in _OWN_SITES for site in sites):
        return "A page of another site sent the request"
    origins = values("Origin")
    if any(not _is_of(_ORIGIN, origin, host) for origin in origins):
        return "A page of another origin sent the request"
    # in browsers without Sec-Fetch-Site, requests for scripts and images have no Origin either
    referers = [] if sites else values("Referer")
    if any(not _is_of(_REFERER, referer, host) for referer in referers):
        return "A page of another origin sent the request"
    return None


def _is_of(pattern: re.Pattern[str], given: str, host: str) -> bool:
    found = pattern.fullmatch(given.strip())
    return found is not None and found[1].lower() == host
