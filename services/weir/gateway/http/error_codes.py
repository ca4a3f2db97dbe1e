"""The closed set of error codes of the gateway, each with its HTTP status and title."""

from typing import NamedTuple

MAX_QUOTED = 100


class Refusal(NamedTuple):
    """The rejection of one event: code, the invalid field (empty: the whole event), what to fix."""

    code: str
    field: str
    text: str


class Problem(NamedTuple):
    """The rejection of a whole request; `retry_after` in seconds, 0 if waiting does not help."""

    code: str
    detail: str
    field: str = ""
    retry_after: int = 0


class ProblemError(Exception):
    """The rejection of a whole request, raised where the fault is found; the handler turns it into the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class ProblemKind(NamedTuple):
    """The HTTP status and title of a problem's code."""

    status: int
    title: str


PROBLEMS: dict[str, ProblemKind] = {
    "invalid_http": ProblemKind(400, "The request is not valid HTTP/1.1"),
    "client_gone": ProblemKind(400, "The client closed the connection"),
    "empty_body": ProblemKind(400, "The body is empty"),
    "invalid_utf8": ProblemKind(400, "The body is not UTF-8"),
    "invalid_json": ProblemKind(400, "The body is not valid JSON"),
    "invalid_body": ProblemKind(400, "The structure of the body is not valid"),
    "no_events": ProblemKind(400, "The body contains no events"),
    "too_deep": ProblemKind(400, "The body is nested too deeply"),
    "invalid_encoding": ProblemKind(400, "The body cannot be decompressed"),
    "invalid_length": ProblemKind(400, "The body ended early"),
    "invalid_context": ProblemKind(400, "The shared context is not valid"),
    "invalid_idempotency_key": ProblemKind(400, "The Idempotency-Key header is not valid"),
    "invalid_query": ProblemKind(400, "The query is not valid"),
    "unauthorized": ProblemKind(401, "The key is missing or unknown"),
    "unknown_site": ProblemKind(401, "The site is unknown"),
    "wrong_signature": ProblemKind(401, "The signature is missing or not valid"),
    "wrong_date": ProblemKind(401, "The signature's time is missing or too far off"),
    "forbidden": ProblemKind(403, "The key does not permit this request"),
    "origin_not_allowed": ProblemKind(403, "Pages of this origin are not allowed"),
    "not_found": ProblemKind(404, "Not found"),
    "method_not_allowed": ProblemKind(405, "The method is not allowed for this path"),
    "body_too_slow": ProblemKind(408, "The body took too long"),
    "body_too_large": ProblemKind(413, "The body is too large"),
    "too_many_events": ProblemKind(413, "The body contains too many events"),
    "context_too_large": ProblemKind(413, "The shared context is too large for so many events"),
    "url_too_long": ProblemKind(414, "The URL is too long"),
    "unsupported_media_type": ProblemKind(415, "The content type is unsupported"),
    "unsupported_encoding": ProblemKind(415, "The content encoding is unsupported"),
    "no_valid_event": ProblemKind(422, "No event in the request is valid"),
    "invalid_goal": ProblemKind(422, "The goal is not valid"),
    "too_many_goals": ProblemKind(422, "The site has the maximum number of goals"),
    "client_rate_limited": ProblemKind(429, "Too many requests from this address"),
    "source_rate_limited": ProblemKind(429, "The source sends too many events per second"),
    "quota_exceeded": ProblemKind(429, "A quota of the source is used up"),
    "head_too_large": ProblemKind(431, "The headers are too large"),
    "internal": ProblemKind(500, "The gateway failed to process the request"),
    "overloaded": ProblemKind(503, "The gateway is overloaded"),
    "not_counted": ProblemKind(503, "Goals cannot be counted at the moment"),
    "cannot_tell": ProblemKind(503, "The event's status is not known at the moment"),
    "backlog": ProblemKind(
        503, "Accepted events have waited so long that they are about to be lost"
    ),
    "secrets_locked": ProblemKind(503, "The signature cannot be checked at the moment"),
    "unavailable": ProblemKind(503, "Events cannot be made durable at the moment"),
    "unacknowledged": ProblemKind(503, "It is not known whether this is stored"),
}

# Problems whose body is stored in `events.rejected`, because the client can fix them. A body that was not
# received completely is stored as an empty payload.
KEPT = frozenset(code for code, kind in PROBLEMS.items() if kind.status in (400, 413, 415)) - {
    "invalid_http",
    "client_gone",
}


def quoted(text: str) -> str:
    """Return a client's text in a form that is safe in a sentence: printable and short."""
    shown = ascii(text)
    return shown if len(shown) <= MAX_QUOTED else shown[: MAX_QUOTED - 1] + "…"
