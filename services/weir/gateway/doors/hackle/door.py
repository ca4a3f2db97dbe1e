"""The door `POST /api/v2/events`: what Hackle's SDKs send, tracked events and exposures to experiments. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from multidict import istr

from weir.gateway.doors.door import (
    BodyLimits,
    Credentials,
    Door,
    Outcome,
    ParsedEvent,
    ParsedEvents,
    Refused,
    RequestMeta,
)
from weir.gateway.doors.events.door import message
from weir.gateway.doors.hackle.parser import (
    Common,
    Configured,
    Exposed,
    Identifiers,
    decode_common,
    decode_exposure,
    decode_identifiers,
    decode_members,
    decode_remote_config,
    decode_track,
    read_body,
)
from weir.gateway.doors.hackle.schema import FIELDS, OPERATION, explain
from weir.gateway.http import request_headers
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest.error_codes import Problem, Refusal
from weir.gateway.ingest.lenient_json import not_json
from weir.gateway.ingest.validation import SentEvent, Shared

SDK_KEY = istr("X-HACKLE-SDK-KEY")
SDK_NAME = istr("X-HACKLE-SDK-NAME")
SDK_VERSION = istr("X-HACKLE-SDK-VERSION")
MAX_LIBRARY = 64  # characters of an SDK's name, and of its version
EXPOSURE = "$exposure"
REMOTE_CONFIG = "$remote_config"
# `$properties` is the SDKs' update of a user's properties; the others are what those on phones send.
OWN_NAMES = frozenset(
    {EXPOSURE, REMOTE_CONFIG, "$properties", "$session_start", "$session_end", "$push_token"}
)
SYSTEM = "$"  # begins the names of the SDKs' own properties, whose values are their affair
ABSENT = (b"", b"null", b"{}")

NOBODY = Refusal("missing", "identifiers", "must name the user, by `$id` for instance")

_encode = msgspec.json.Encoder().encode


class Sent(ParsedEvents):
    """The events of a body, list after list."""

    lists: Sequence[tuple[str, int]] = ()  # the name of each, and how many are in it

    def client_id(self, index: int) -> str:
        try:
            return (decode_common(self.drafts[index].raw).insert_id or "")[:255]
        except (msgspec.DecodeError, RecursionError):
            return ""

    def place(self, index: int) -> tuple[str, int]:
        """The list that an event is in, and its place there."""
        for name, count in self.lists:
            if index < count:
                return name, index
            index -= count
        raise IndexError(index)


class HackleDoor(Door):
    """Takes the body of Hackle's SDKs, each event for itself."""

    name = "hackle"
    operation = OPERATION

    def claim(self, asked: RequestMeta) -> Credentials:
        key = request_headers.clean(asked.headers.get(SDK_KEY, "").strip())
        return Credentials(key=key or request_headers.key_of(asked.headers, asked.query))

    def read(self, asked: RequestMeta, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        lists = read_body(body)
        if isinstance(lists, Problem):
            return lists
        tracked, exposed, configured = lists
        if len(tracked) + len(exposed) + len(configured) > caps.events:
            return Problem("too_many_events", f"A request takes at most {caps.events:,} events.")
        library = library_of(asked.headers)
        shared = Shared(b"", body)
        shared.may_reserve = False  # the names of properties are the sender's affair here
        return Sent(
            drafts=[
                *_drafts(tracked, library, _track),
                *_drafts(exposed, library, _exposure),
                *_drafts(configured, library, _remote_config),
            ],
            shared=shared,
            own_names=OWN_NAMES,
            spaced_names=True,
            words=FIELDS,
            clamps_future=True,
            lists=(
                ("trackEvents", len(tracked)),
                ("exposureEvents", len(exposed)),
                ("remoteConfigEvents", len(configured)),
            ),
        )

    def reply(self, asked: RequestMeta, parcel: ParsedEvents, outcome: Outcome) -> Answer:
        """The SDKs look at the status alone: 2xx when anything was taken."""
        assert isinstance(parcel, Sent)
        refused = [_told(one, *parcel.place(one.index)) for one in outcome.refused]
        if not outcome.event_ids:
            first = Problem("no_valid_event", message(outcome.refused[0].refusal))
            return problem(first, rejected=refused)
        told: dict[str, Any] = {"rejected": refused} if refused else {}
        if outcome.warnings:
            told["warnings"] = outcome.warnings
        return Answer(202, _encode(told))


DOOR = HackleDoor()


def _told(one: Refused, name: str, index: int) -> dict[str, Any]:
    return {
        "list": name,
        "index": index,
        "id": one.client_id or None,
        "code": one.refusal.code,
        "field": one.refusal.field or None,
        "message": message(one.refusal),
    }


def library_of(headers: request_headers.Headers) -> bytes:
    """The SDK as a member of a context; empty: it does not say."""
    told = {
        name: request_headers.clean(headers[header])[:MAX_LIBRARY]
        for name, header in (("name", SDK_NAME), ("version", SDK_VERSION))
        if header in headers
    }
    return b'"library":' + _encode(told) if told else b""


Read = Callable[[bytes, bytes], SentEvent | Refusal]


def _drafts(sent: list[bytes], library: bytes, read: Read) -> Iterator[ParsedEvent]:
    for raw in sent:
        event: SentEvent | Refusal
        try:
            event = read(raw, library)
        except msgspec.ValidationError as fault:
            event = explain(str(fault))
        except msgspec.DecodeError as fault:
            event = not_json(raw, fault)
        yield ParsedEvent(raw, event)


def _track(raw: bytes, library: bytes) -> SentEvent | Refusal:
    sent = decode_track(raw)
    properties = bytes(sent.properties)
    if refusal := check_values(properties):
        return refusal
    event_type = b'"eventTypeId":%d' % sent.event_type_id if sent.event_type_id else b""
    return _event(sent.event_type_key, sent, sent.properties, (library, event_type), sent.value)


def _exposure(raw: bytes, library: bytes) -> SentEvent | Refusal:
    sent = decode_exposure(raw)
    exposed = Exposed(
        str(sent.experiment_key),
        sent.experiment_type,
        sent.experiment_id,
        sent.experiment_version,
        sent.variation_key,
        sent.variation_id,
        sent.decision_reason,
        _own(sent),
    )
    return _event(EXPOSURE, sent, Raw(_encode(exposed)), (library,))


def _remote_config(raw: bytes, library: bytes) -> SentEvent | Refusal:
    sent = decode_remote_config(raw)
    configured = Configured(
        sent.parameter_key,
        sent.parameter_type,
        sent.parameter_id,
        sent.value_id,
        sent.decision_reason,
        _own(sent),
    )
    return _event(REMOTE_CONFIG, sent, Raw(_encode(configured)), (library,))


def _own(sent: Common) -> Raw | None:
    return None if bytes(sent.properties) in ABSENT else sent.properties


def check_values(properties: bytes) -> Refusal | None:
    """A property is a boolean, a string or a number; null is as good as absent, as the SDKs leave it out."""
    if properties.count(b"{") <= 1 and b"[" not in properties:  # nothing is nested
        return None
    if not properties.startswith(b"{"):
        return Refusal("wrong_type", "properties", "must be an object")
    for name, value in decode_members(properties).items():
        if bytes(value)[:1] in b"{[" and not name.startswith(SYSTEM):
            text = "must be a boolean, a string or a number"
            return Refusal("wrong_type", f"properties.{name}", text)
    return None


def _event(
    name: str, sent: Common, properties: Raw, further: Sequence[bytes], value: float | None = None
) -> SentEvent | Refusal:
    """An event of the person that the identifiers name.

    `$id` is whatever the sender calls a user. The SDKs on phones put the device's id there when
    nobody has logged in; that is nobody's name, and must not make a user of each device. A blank
    identifier is as good as absent, and an event has to have one that Weir knows people by.
    """
    members = [part for part in further if part]
    for start, raw in (
        (b'"identifiers":', sent.identifiers),
        (b'"userProperties":', sent.user_properties),
        (b'"hackleProperties":', sent.hackle_properties),
    ):
        told = bytes(raw)
        if told in ABSENT:
            continue
        if not told.startswith(b"{"):
            return Refusal("wrong_type", start.decode()[1:-2], "must be an object")
        members.append(start + told)
    who = bytes(sent.identifiers)
    ids = Identifiers() if who in ABSENT else decode_identifiers(who)
    own, hackles, session = _known(ids.device), _known(ids.hackle_device), _known(ids.session)
    user, given = _known(ids.user), _known(ids.id) or _known(sent.user_id)
    if user is None and given not in (own, hackles):
        user = given
    device = own or hackles
    if user is None and device is None and session is None:
        return NOBODY
    return SentEvent(
        name,
        user_id=user,
        anonymous_id=device,
        session_id=session,
        idempotency_key=sent.insert_id,
        value=value,
        occurred_at=sent.timestamp,
        properties=properties,
        context=Raw(b"{" + b",".join(members) + b"}"),
    )


def _known(given: str | int | None) -> str | None:
    """An identifier as text; None: it is blank, or not there."""
    return None if given is None else str(given).strip() or None
