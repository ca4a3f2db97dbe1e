"""The door `POST /api/v2/events` of Hackle's SDKs: tracked events, exposures, remote configurations. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from multidict import istr

from weir.gateway.doors.answers import message
from weir.gateway.doors.door import Door
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
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest.lenient_json import not_json
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    Credentials,
    Outcome,
    ParsedEvent,
    ParsedEvents,
    Refused,
)
from weir.gateway.ingest.split_events import require_few
from weir.gateway.ingest.validation import MAX_CHARACTERS, Policy, SentEvent, Shared

SDK_KEY = istr("X-HACKLE-SDK-KEY")
SDK_NAME = istr("X-HACKLE-SDK-NAME")
SDK_VERSION = istr("X-HACKLE-SDK-VERSION")
MAX_LIBRARY = 64  # characters of an SDK's name, and of its version
EXPOSURE = "$exposure"
REMOTE_CONFIG = "$remote_config"
# `$properties` is the SDKs' update of a user's properties; mobile SDKs send the three names after it.
OWN_NAMES = frozenset(
    {EXPOSURE, REMOTE_CONFIG, "$properties", "$session_start", "$session_end", "$push_token"}
)
POLICY = Policy(OWN_NAMES, spaced_names=True, clamps_future=True, field_names=FIELDS)
SYSTEM = "$"  # prefix of the SDKs' own properties, whose values are not checked
ABSENT = (b"", b"null", b"{}")

NOBODY = Refusal("missing", "identifiers", "must name the user, for example by `$id`")

_encode = msgspec.json.Encoder().encode


def place_of(lists: Sequence[tuple[str, int]], index: int) -> tuple[str, int]:
    """Return the name of the list that an event is in, and its index there; `lists`: (name, count) of each list."""
    for name, count in lists:
        if index < count:
            return name, index
        index -= count
    raise IndexError(index)


class HackleDoor(Door):
    """The door for the bodies of Hackle's SDKs; each event is accepted or rejected by itself."""

    name = "hackle"
    not_kept = "the list of the body that the event was in, with the SDK's headers,"
    operation = OPERATION

    def credentials(self, request: RequestMeta) -> Credentials:
        key = request_headers.clean(request.headers.get(SDK_KEY, "").strip())
        return Credentials(key=key or request_headers.key_of(request.headers, request.query))

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        tracked, exposed, configured = read_body(body)
        require_few(len(tracked) + len(exposed) + len(configured), limits.events)
        library = library_of(request.headers)
        shared = Shared(b"", body)
        shared.may_reserve = False  # names of properties are not checked at this door
        return ParsedEvents(
            [
                *_parsed(tracked, library, _track),
                *_parsed(exposed, library, _exposure),
                *_parsed(configured, library, _remote_config),
            ],
            shared,
            POLICY,
            note=(
                ("trackEvents", len(tracked)),
                ("exposureEvents", len(exposed)),
                ("remoteConfigEvents", len(configured)),
            ),
        )

    def client_id(self, parsed: ParsedEvent) -> str:
        try:
            return (decode_common(parsed.raw).insert_id or "")[:MAX_CHARACTERS]
        except (msgspec.DecodeError, RecursionError):
            return ""

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        """Return 202 if any event was accepted: the SDKs look only at the status."""
        refused = [
            _rejected_entry(one, *place_of(events.note, one.index)) for one in outcome.refused
        ]
        if not outcome.event_ids:
            first = Problem("no_valid_event", message(outcome.refused[0].refusal))
            return problem(first, rejected=refused)
        members: dict[str, Any] = {"rejected": refused} if refused else {}
        if outcome.warnings:
            members["warnings"] = outcome.warnings
        return Answer(202, _encode(members))


DOOR = HackleDoor()


def _rejected_entry(one: Refused, name: str, index: int) -> dict[str, Any]:
    return {
        "list": name,
        "index": index,
        "id": one.client_id or None,
        "code": one.refusal.code,
        "field": one.refusal.field or None,
        "message": message(one.refusal),
    }


def library_of(headers: request_headers.Headers) -> bytes:
    """Return the SDK's name and version as a member of a context; empty: the headers have neither."""
    library = {
        name: request_headers.clean(headers[header])[:MAX_LIBRARY]
        for name, header in (("name", SDK_NAME), ("version", SDK_VERSION))
        if header in headers
    }
    return b'"library":' + _encode(library) if library else b""


ReadEvent = Callable[[bytes, bytes], SentEvent | Refusal]


def _parsed(sent: list[bytes], library: bytes, read: ReadEvent) -> Iterator[ParsedEvent]:
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
    """Check that properties are booleans, strings or numbers; null counts as absent, as the SDKs omit it."""
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
    """Return an event of the person that the identifiers name.

    `$id` is the sender's own id of a user. Mobile SDKs put the device's id there if nobody has logged in; that
    names nobody, and must not turn each device into a user. A blank identifier counts as absent. An event needs
    a user, a device or a session: Weir identifies people by these.
    """
    members = [part for part in further if part]
    for start, raw in (
        (b'"identifiers":', sent.identifiers),
        (b'"userProperties":', sent.user_properties),
        (b'"hackleProperties":', sent.hackle_properties),
    ):
        encoded = bytes(raw)
        if encoded in ABSENT:
            continue
        if not encoded.startswith(b"{"):
            return Refusal("wrong_type", start.decode()[1:-2], "must be an object")
        members.append(start + encoded)
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
    """Return an identifier as text; None: it is blank or absent."""
    return None if given is None else str(given).strip() or None
