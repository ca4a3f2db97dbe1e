"""What a door has read out of a request, and what became of it: plain values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct, field

from weir.core.receipts import Receipt
from weir.gateway.ingest.error_codes import Problem, ProblemError, Refusal
from weir.gateway.ingest.validation import Event, Policy, SentEvent, Shared


class Credentials(NamedTuple):
    """Who a request says it is of. The key counts if it is there; a source with it must be the key's."""

    key: str = ""
    source: str = ""  # its id: enough if the source is `open_by_id`
    site: str = ""  # a host name: enough if the source has it among its `sites`


class BodyLimits(NamedTuple):
    """What a request may hold."""

    events: int
    body_bytes: int


class BodyProblemError(ProblemError):
    """Nothing of a body is taken, but it says whose it is: the source's, to mend."""

    def __init__(self, problem: Problem, credentials: Credentials) -> None:
        super().__init__(problem)
        self.credentials = credentials


class ParsedEvent(NamedTuple):
    """One event as a door has read it: the client's own bytes of it, and what they say in Weir's terms."""

    raw: bytes
    event: SentEvent | Refusal


class ParsedEvents(Struct):
    """The events of one request, and what its sender wants for all of them. None is validated yet."""

    events: Sequence[ParsedEvent] = ()
    shared: Shared = field(default_factory=Shared.nothing)
    policy: Policy = Policy()  # how they are validated
    credentials: Credentials | None = None  # of a door whose body says who sends
    wants_profile: bool = True
    wants_session: bool = True
    saved: bool = True  # false: processed and accounted for, not stored
    wants_receipts: bool = False  # the reply says what the workers decided
    window_seconds: int | None = None  # how long their keys are remembered; None: as the source's
    # What of a valid event a repeat has too, for the digest of its payload; None: its bytes
    payload_of: Callable[[Event], bytes] | None = None
    envelope: bytes = b"events"  # the member of a body that holds events beside what they share
    # Whose the events are, where a server sends for others; empty: the sender's own
    ip: str = ""
    user_agent: str = ""
    declined: int = 0  # events whose people asked not to be followed: counted, not kept
    warnings: Sequence[str] = ()  # of the whole request, for the answer
    note: Any = None  # what the door's `reply` wants to know again

    def __len__(self) -> int:
        return len(self.events)

    def whole(self, raw: bytes) -> bytes:
        """An event's bytes together with what it shares with others, as a body of its own."""
        context = self.shared.raw
        return b'{"%b":[%b],"context":%b}' % (self.envelope, raw, context) if context else raw


class Refused(Struct, frozen=True):
    """One event of the request that was refused, by its place."""

    index: int
    client_id: str  # the client's own key or id; empty: none could be read
    refusal: Refusal


class Outcome(Struct):
    """What became of a request's events: the accepted are on all in-sync replicas."""

    event_ids: Sequence[str]
    refused: Sequence[Refused]
    warnings: Sequence[str] = ()
    receipts: Mapping[str, Receipt] = {}  # by event id; those that came in time
