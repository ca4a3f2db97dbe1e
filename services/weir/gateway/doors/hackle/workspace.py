"""Two more endpoints that Hackle's SDKs need: the workspace they start with, and one for their own metrics."""

from email.utils import mktime_tz, parsedate_tz
from typing import Any, Protocol

from aiohttp import hdrs

from weir.gateway.doors.hackle.door import DOOR
from weir.gateway.http import request_headers
from weir.gateway.http.body_reader import ReadBody
from weir.gateway.http.openapi import problem_response
from weir.gateway.http.problems import unavailable
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest.parsed_events import Credentials
from weir.gateway.registry_copy import Registry

# A workspace without experiments: Weir makes no decisions, so the SDKs use their defaults. It never changes,
# so any time in the past and any ETag will do.
WORKSPACE = b"{}"
ETAG = '"1"'
LAST_MODIFIED = "Sat, 01 Jan 2000 00:00:00 GMT"
LAST_MODIFIED_SECONDS = 946_684_800
_LINES = f"ETag: {ETAG}\r\nLast-Modified: {LAST_MODIFIED}\r\n".encode()


class WorkspaceContext(Protocol):
    """What these pages need of the gateway."""

    @property
    def registry(self) -> Registry: ...


def refuse_key(key: str, app: WorkspaceContext) -> Answer | None:
    """Return the error answer for a key that no source has; None: a source has it."""
    if not app.registry.loaded:
        return problem(unavailable("The registry is not loaded yet."))
    if app.registry.find(key) is None:
        return problem(Credentials().unauthorized())
    return None


_UNKNOWN = {
    "401": problem_response("No source has this key."),
    "503": problem_response("The registry is not loaded yet."),
}


class WorkspacePage:
    """An empty workspace for every known key: the SDKs need no more to start and to track."""

    name = "hackle_workspace"
    operation: dict[str, Any] = {  # noqa: RUF012
        "summary": "The empty workspace that Hackle's SDKs start with. Requests may be conditional.",
        "responses": {
            "200": {
                "description": "An empty object.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "304": {"description": "The workspace has not changed."},
            **_UNKNOWN,
        },
    }

    async def answer(self, asked: RequestMeta, read: ReadBody, app: WorkspaceContext) -> Answer:
        if refused := refuse_key(asked.parts["sdk_key"], app):
            return refused
        if is_current(asked.headers):
            return Answer(304, b"", headers=_LINES)
        return Answer(200, WORKSPACE, headers=_LINES)


class MonitoringPage:
    """The endpoint for the SDKs' own metrics. It drops them; only the request itself is counted."""

    name = "hackle_monitoring"
    operation: dict[str, Any] = {  # noqa: RUF012
        "summary": "Metrics that Hackle's SDKs send about themselves. They are not stored.",
        "responses": {
            "202": {"description": "Received."},
            **_UNKNOWN,
        },
    }

    async def answer(self, asked: RequestMeta, read: ReadBody, app: WorkspaceContext) -> Answer:
        return refuse_key(DOOR.credentials(asked).key, app) or Answer(202, b"{}")


WORKSPACE_PAGE = WorkspacePage()
MONITORING_PAGE = MonitoringPage()


def is_current(headers: request_headers.Headers) -> bool:
    """Check whether the client has the current workspace (RFC 9110, 13.1: an ETag takes precedence over a time)."""
    tags = headers.get(hdrs.IF_NONE_MATCH)
    if tags is not None:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return bool(known & {ETAG, "*"})
    since = parsedate_tz(headers.get(hdrs.IF_MODIFIED_SINCE, ""))
    if since is None:
        return False
    try:
        return mktime_tz(since) >= LAST_MODIFIED_SECONDS
    except (ValueError, OverflowError):  # a date that does not exist
        return False
