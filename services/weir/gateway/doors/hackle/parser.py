"""The wire format of Hackle's SDKs, and the properties of exposures and remote configurations. Pure."""

import msgspec
from msgspec import Raw, Struct

from weir.gateway.doors.hackle.schema import body_trouble
from weir.gateway.http.error_codes import Problem, ProblemError
from weir.gateway.ingest import lenient_json
from weir.gateway.ingest.split_body import parse_body

Lists = tuple[list[bytes], list[bytes], list[bytes]]


class _Body(Struct, rename="camel"):
    exposure_events: list[Raw] | None = None
    track_events: list[Raw] | None = None
    remote_config_events: list[Raw] | None = None


class Identifiers(Struct, gc=False):
    id: str | int | None = msgspec.field(default=None, name="$id")
    user: str | int | None = msgspec.field(default=None, name="$userId")
    device: str | int | None = msgspec.field(default=None, name="$deviceId")
    hackle_device: str | int | None = msgspec.field(default=None, name="$hackleDeviceId")
    session: str | int | None = msgspec.field(default=None, name="$sessionId")


class Common(Struct, rename="camel", kw_only=True, gc=False):
    """The members that the SDKs' events of every kind have."""

    insert_id: str | None = None
    timestamp: int | float | None = None
    user_id: str | int | None = None  # the same as `$id`
    identifiers: Raw = Raw()
    user_properties: Raw = Raw()
    hackle_properties: Raw = Raw()
    properties: Raw = Raw()


class Track(Common, rename="camel", kw_only=True, gc=False):
    event_type_key: str
    event_type_id: int | None = None
    value: float | None = None


class Exposure(Common, rename="camel", kw_only=True, gc=False):
    experiment_key: int | str
    variation_key: str
    experiment_type: str | None = None
    experiment_id: int | str | None = None
    experiment_version: int | None = None
    variation_id: int | str | None = None
    decision_reason: str | None = None


class RemoteConfig(Common, rename="camel", kw_only=True, gc=False):
    parameter_key: str
    parameter_type: str | None = None
    parameter_id: int | str | None = None
    value_id: int | str | None = None
    decision_reason: str | None = None


class Exposed(Struct, omit_defaults=True, gc=False):
    """The properties of an `$exposure`."""

    experiment_key: str
    experiment_type: str | None = None
    experiment_id: int | str | None = None
    experiment_version: int | None = None
    variation_key: str | None = None
    variation_id: int | str | None = None
    decision_reason: str | None = None
    properties: Raw | None = None  # the SDK's own


class Configured(Struct, omit_defaults=True, gc=False):
    """The properties of a `$remote_config`."""

    parameter_key: str
    parameter_type: str | None = None
    parameter_id: int | str | None = None
    value_id: int | str | None = None
    decision_reason: str | None = None
    properties: Raw | None = None  # the SDK's own


_decode_body = msgspec.json.Decoder(_Body).decode
decode_identifiers = msgspec.json.Decoder(Identifiers).decode
decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
decode_track = msgspec.json.Decoder(Track).decode
decode_exposure = msgspec.json.Decoder(Exposure).decode
decode_remote_config = msgspec.json.Decoder(RemoteConfig).decode
decode_common = msgspec.json.Decoder(Common).decode


def read_body(body: bytes) -> Lists:
    """Return (tracked events, exposures, remote configurations), each event with its own bytes and unchecked."""
    return parse_body(body, _split_lists, body_trouble)


def _split_lists(body: bytes) -> Lists:
    if not body.strip(b" \t\r\n"):
        raise ProblemError(
            Problem("empty_body", "Send an object with `trackEvents`, an array of events.")
        )
    decoded = lenient_json.decoded(body, _decode_body)
    sent = decoded.found
    if not (sent.track_events or sent.exposure_events or sent.remote_config_events):
        text = "The body is well-formed but contains no event."
        raise ProblemError(Problem("no_events", text))
    return (
        decoded.own(sent.track_events or ()),
        decoded.own(sent.exposure_events or ()),
        decoded.own(sent.remote_config_events or ()),
    )
