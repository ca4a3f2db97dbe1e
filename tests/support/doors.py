"""What doors and the gateway's other functions make of a request, as values that a test looks at."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from weir.gateway.doors.door import Door
from weir.gateway.http.error_codes import Problem, ProblemError, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import BodyLimits, BodyProblemError, ParsedEvents
from weir.gateway.ingest.validation import Event, validate

P = ParamSpec("P")
T = TypeVar("T")


def attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Problem:
    """Call a function; return the problem where it raises one."""
    try:
        return function(*args, **kwargs)
    except ProblemError as error:
        return error.problem


def problem_of(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Problem:
    """Call what must raise a `ProblemError` that is nobody's, and return its problem."""
    error = _error_of(function, *args, **kwargs)
    assert not isinstance(error, BodyProblemError), error.credentials
    return error.problem


def body_problem_of(
    function: Callable[P, object], *args: P.args, **kwargs: P.kwargs
) -> BodyProblemError:
    """Call what must raise a `BodyProblemError`, and return it."""
    error = _error_of(function, *args, **kwargs)
    assert isinstance(error, BodyProblemError), error.problem
    return error


def _error_of(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> ProblemError:
    try:
        found = function(*args, **kwargs)
    except ProblemError as error:
        return error
    raise AssertionError(f"no problem, but {found!r}")


def parse(
    door: Door, request: RequestMeta, body: bytes, limits: BodyLimits
) -> ParsedEvents | Problem:
    """Parse a body; return the problem, whosever it is, where the door raises one."""
    return attempt(door.parse, request, body, limits)


def validated(events: ParsedEvents, now_ms: int) -> list[tuple[bytes, Event | Refusal]]:
    """Validate each event of a request, and return it beside its bytes."""
    shared, policy = events.shared, events.policy
    return [
        (one.raw, validate(one.event, one.raw, shared, now_ms, policy)) for one in events.events
    ]
