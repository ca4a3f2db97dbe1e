"""The events that a door parsed from a request, and their outcome. Plain values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

from msgspec import Raw, Struct, field

from weir.core.receipts import Receipt
from weir.gateway.http.error_codes import Problem, ProblemError, Refusal, quoted
from weir.gateway.ingest.validation import Event, Policy, SentEvent, Shared


class Credentials(NamedTuple):
    """What a request says about its source. A key takes precedence; a source id beside it must be the key's."""

    key: str = ""
    source: str = ""  # a source id: enough if the source is `open_by_id`
    site: str = ""  # a host name: enough if the source has it among its `sites`

    def unauthorized(self) -> Problem:
        """Return the problem of a request whose credentials belong to no source."""
        if self.site:
            return Problem("unknown_site", f"No source has {quoted(self.site)} among its sites.")
        if self.source and not self.key:
            text = f"No source {quoted(self.source)} accepts events without its key."
            return Problem("unauthorized", text)
        text = "Send the key as `Authorization: Bearer`, `X-Weir-Key` or `?key=`."
        return Problem("unauthorized", text)


class BodyLimits(NamedTuple):
    """How many events and bytes a request may have."""

    events: int
    body_bytes: int


class BodyProblemError(ProblemError):
    """The rejection of a body that names its source, so that it is stored for that source to fix."""

    def __init__(self, problem: Problem, credentials: Credentials) -> None:
        super().__init__(problem)
        self.credentials = credentials


class ParsedEvent(NamedTuple):
    """One event as a door has parsed it: the client's bytes, and the event in Weir's terms or its refusal."""

    raw: bytes
    event: SentEvent | Refusal


class LazyEvents(Sequence[ParsedEvent]):
    """Events that are parsed each time they are looked at, and not kept.

    So a body of thousands of events takes no more memory than its bytes, and none of it is decoded before the
    request has passed its signature and its limits.
    """

    def __init__(self, raws: Sequence[bytes | Raw], parse: Callable[[bytes], ParsedEvent]) -> None:
        self._raws = raws
        self._parse = parse

    def __len__(self) -> int:
        return len(self._raws)

    def __iter__(self) -> Iterator[ParsedEvent]:
        parse = self._parse
        for raw in self._raws:
            yield parse(bytes(raw))

    @overload
    def __getitem__(self, index: int) -> ParsedEvent: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ParsedEvent]: ...

    def __getitem__(self, index: int | slice) -> ParsedEvent | Sequence[ParsedEvent]:
        if isinstance(index, slice):
            return LazyEvents(self._raws[index], self._parse)
        return self._parse(bytes(self._raws[index]))


class ParsedEvents(Struct):
    """The events of one request, and the options that apply to all of them. No event is validated yet."""

    events: Sequence[ParsedEvent] = ()
    shared: Shared = field(default_factory=Shared.nothing)
    policy: Policy = Policy()  # how they are validated
    credentials: Credentials | None = None  # from a door whose body names the source
    wants_profile: bool = True
    wants_session: bool = True
    saved: bool = True  # false: processed and counted in the books, but not stored
    wants_receipts: bool = False  # the reply reports what the workers decided
    window_seconds: int | None = None  # how long keys are remembered; None: the source's setting
    # The part of a valid event that a repeat also has, for the digest of its payload; None: its bytes
    payload_of: Callable[[Event], bytes] | None = None
    envelope: bytes = b"events"  # the member that holds the events, in a body with a shared context
    # The visitor's, if a server sends events of its visitors; empty: the client's own
    ip: str = ""
    user_agent: str = ""
    new_profile_id: str = ""  # replaces a profile id that is a placeholder; empty: nothing does
    declined: int = 0  # events of people who asked not to be tracked: counted, not stored
    warnings: Sequence[str] = ()  # about the whole request, for the answer
    note: Any = None  # passed on to the door's `reply`

    def __len__(self) -> int:
        return len(self.events)

    def whole(self, raw: bytes) -> bytes:
        """Return an event's bytes together with the shared context, as a body of its own."""
        context = self.shared.raw
        return b'{"%b":[%b],"context":%b}' % (self.envelope, raw, context) if context else raw


class Refused(Struct, frozen=True):
    """One rejected event of the request, by its position."""

    index: int
    client_id: str  # the client's own key or id of the event; empty: none could be read
    refusal: Refusal


class Outcome(Struct):
    """The outcome of a request's events. Accepted events are on all in-sync replicas."""

    event_ids: Sequence[str]
    refused: Sequence[Refused]
    warnings: Sequence[str] = ()
    receipts: Mapping[str, Receipt] = {}  # by event id; those that came in time
    ignored_ids: Sequence[str] = ()  # field names, one entry for each ignored id
