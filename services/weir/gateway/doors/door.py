"""What a door is: how one product's clients say who they are and what happened, and how they are answered.

A door is pure: functions from a request to events, and from what became of them to that product's
reply. Everything behind it (rates, quotas, checks, Kafka, the books) is the same for all of them.
docs/doors.md says how to add one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from msgspec import Struct, field

from weir.core.receipts import Receipt
from weir.core.registry import Source
from weir.gateway.http import request_headers
from weir.gateway.http.request_meta import RequestMeta as RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest import signing
from weir.gateway.ingest.error_codes import Problem, Refusal
from weir.gateway.ingest.validation import Event, SentEvent, Shared, check_sent

RECEIPT_SECONDS = 5.0  # how long a reply waits for what the workers decide


class Credentials(NamedTuple):
    """Who a request says it is of. The key counts if it is there; a source with it must be the key's."""

    key: str = ""
    source: str = ""  # its id: enough if the source is `open_by_id`
    site: str = ""  # a host name: enough if the source has it among its `sites`


class BodyLimits(NamedTuple):
    """What a request may hold."""

    events: int
    body_bytes: int


class ParsedEvent(NamedTuple):
    """One event as a door has read it: the client's own bytes of it, and what they say in Weir's terms."""

    raw: bytes
    event: SentEvent | Refusal


class Refused(Struct, frozen=True):
    """One event of the request that was refused, by its place."""

    index: int
    client_id: str  # the client's own key or id; empty: none could be read
    refusal: Refusal


class ParsedEvents(Struct):
    """The events of one request, and what its sender wants for all of them."""

    drafts: Sequence[ParsedEvent] = ()
    shared: Shared = field(default_factory=Shared.nothing)
    claim: Credentials | None = None  # of a door whose body says who sends
    wants_profile: bool = True
    wants_session: bool = True
    saved: bool = True  # false: processed and accounted for, not stored
    wants_receipts: bool = False  # the reply says what the workers decided
    window_seconds: int | None = None  # how long its keys are remembered; None: as the source's
    # Names of the product's own that start with `$` or `ss_`; None: names are the sender's affair
    own_names: frozenset[str] | None = frozenset()
    uncased_names: frozenset[str] = frozenset()  # that its clients give by themselves: any casing
    spaced_names: bool = False  # whether event names may have spaces inside, as the product's may
    # Whether a time too far ahead becomes that of receipt: of clients that take it from their own
    # clock, and do not send again what was refused. What that clock said is not kept
    clamps_future: bool = False
    # What refusals call Weir's fields, as the client writes them
    words: Mapping[str, str] = {}
    # What of a valid event a repeat has too, for the digest of its payload; None: its bytes
    payload_of: Callable[[Event], bytes] | None = None
    # Whose the events are, where a server sends for others; empty: the sender's own
    ip: str = ""
    user_agent: str = ""
    declined: int = 0  # events whose people asked not to be followed: counted, not kept
    problem: Problem | None = None  # why none of it is taken, though its claim could be read
    signed: bytes = b""  # a digest of what was signed; empty: it was not
    warnings: Sequence[str] = ()  # of the whole request, for the answer
    note: Any = None  # what the door's `reply` wants to know again

    def __len__(self) -> int:
        return len(self.drafts)

    def checked(self, now_ms: int) -> Iterator[tuple[bytes, Event | Refusal]]:
        """Each event's bytes, and the event if it is valid, else why not."""
        shared, own_names, spaced = self.shared, self.own_names, self.spaced_names
        clamps = self.clamps_future
        for raw, sent in self.drafts:
            found: Event | Refusal | SentEvent = sent
            if isinstance(found, SentEvent):
                found = check_sent(found, raw, shared, now_ms, own_names, spaced, clamps)
            if self.words and isinstance(found, Refusal):
                found = found._replace(field=self.words.get(found.field, found.field))
            yield raw, found

    def whole(self, raw: bytes) -> bytes:
        """An event's bytes together with what it shares with others, as a body of its own."""
        return self._enveloped(b"events", raw)

    def _enveloped(self, name: bytes, raw: bytes) -> bytes:
        context = self.shared.raw
        return b'{"%b":[%b],"context":%b}' % (name, raw, context) if context else raw

    def client_id(self, index: int) -> str:
        """The client's own name for an event, if one can be read; for its eyes only."""
        sent = self.drafts[index].event
        if isinstance(sent, Refusal):
            return ""
        return (sent.idempotency_key or sent.id or "")[:255]


class Outcome(Struct):
    """What became of a parcel: the accepted are on all in-sync replicas."""

    event_ids: Sequence[str]
    refused: Sequence[Refused]
    warnings: Sequence[str] = ()
    receipts: Mapping[str, Receipt] = {}  # by event id; those that came in time


class Door:
    """A door with what most have in common; a product's own overrides what differs."""

    name: ClassVar[str]  # as in the column `door` and in metrics
    operation: ClassVar[dict[str, Any]]  # of OpenAPI

    def claim(self, asked: RequestMeta) -> Credentials | None:
        """Who sends. None: only the body says; then `read` puts it into the parcel.

        Where a key says it already, the body is read on that source's account; what the parcel
        claims besides must be the same source.
        """
        return Credentials(key=request_headers.key_of(asked.headers, asked.query))

    def takes(self, media: request_headers.Media) -> bool:
        """Whether it takes a body of that type."""
        return media.taken and not media.is_ndjson

    def declines(self, asked: RequestMeta) -> bool:
        """Whether the person asked not to be followed: then nothing of the request is kept."""
        return False

    def read(self, asked: RequestMeta, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        """The events in a body. A `Problem` when they cannot be told apart; none is checked yet."""
        raise NotImplementedError

    def verify(self, asked: RequestMeta, body: bytes, source: Source) -> bytes | Problem | None:
        """A digest of what a right signature is of, or why it is not the source's; None: it is not signed."""
        return signing.verify(asked, body, source)

    def mask(self, payload: bytes) -> bytes:
        """What is kept of a refused payload: all but the write keys in it. The claimed one goes anyway."""
        return payload

    def reply(self, asked: RequestMeta, parcel: ParsedEvents, outcome: Outcome) -> Answer:
        """What the client is told of its events."""
        raise NotImplementedError

    def refuse(self, asked: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        """What the client is told when none of its events was looked at."""
        return problem(trouble, headers)
