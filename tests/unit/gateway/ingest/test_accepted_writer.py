"""The accepted-record encoder writes the same bytes as a general Avro writer, for any event."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from weir.adapters import avro
from weir.adapters.avro import long, varint
from weir.core.identifiers import PUBLIC_MARK, identity_key
from weir.core.registry import Source
from weir.gateway.ingest.accepted_writer import (
    AcceptedWriter,
    Client,
    SourceFields,
    time_bytes,
)
from weir.gateway.ingest.validation import Event

ACCEPTED = avro.schemas()["Accepted"]
LONG = st.integers(-(2**63), 2**63 - 1)
text = st.text(max_size=255)
identifiers = st.one_of(st.just(""), text)
events = st.builds(
    Event,
    name=st.text(min_size=1, max_size=255),
    user_id=identifiers,
    anonymous_id=identifiers,
    profile_id=identifiers,
    session_id=identifiers,
    idempotency_key=identifiers,
    occurred_at=st.one_of(st.none(), LONG),
    value=st.one_of(st.none(), st.floats(allow_nan=False)),
    context=st.text(max_size=10_000).map(str.encode),
    properties=st.text(max_size=10_000).map(str.encode),
)
sources = st.builds(Source, id=text, workspace=text, dedup_window_seconds=st.integers(0, 2**31 - 1))
clients = st.builds(
    Client,
    door=text,
    ip=text,
    user_agent=text,
    has_profile=st.booleans(),
    over_quota=st.booleans(),
    has_session=st.none() | st.booleans(),
    saved=st.booleans(),
    wants_receipt=st.booleans(),
    public=st.booleans(),
)


@given(events, sources, clients, LONG, st.uuids(), st.binary(min_size=16, max_size=16), text)
def test_accepted_writer_bytes_equal_those_of_the_avro_schema_encoder(
    event: Event,
    source: Source,
    client: Client,
    received_at: int,
    event_id: uuid.UUID,
    digest: bytes,
    key: str,
) -> None:
    writer = AcceptedWriter(SourceFields.of(source), received_at, client)
    record = {
        "event_id": event_id.bytes,
        "payload_hash": digest,
        "received_at": received_at,
        "source": source.id,
        "workspace": source.workspace,
        "dedup_window_seconds": source.dedup_window_seconds,
        "identity_key": PUBLIC_MARK * client.public
        + identity_key(event.profile_id, event.user_id, event.anonymous_id, event.session_id),
        "idempotency_key": key,
        "occurred_at": received_at if event.occurred_at is None else event.occurred_at,
        "event": event.name,
        "user_id": event.user_id,
        "anonymous_id": event.anonymous_id,
        "client_profile_id": event.profile_id,
        "client_session_id": event.session_id,
        "wants_profile": client.has_profile,
        "wants_session": (client.has_profile if client.has_session is None else client.has_session),
        "saved": client.saved,
        "wants_receipt": client.wants_receipt,
        "over_quota": client.over_quota,
        "door": client.door,
        "ip": client.ip,
        "user_agent": client.user_agent,
        "value": event.value,
        "context": event.context.decode(),
        "properties": event.properties.decode(),
    }
    assert list(record) == ACCEPTED.fields
    assert writer.encode(event_id.bytes, digest, key.encode(), event) == ACCEPTED.encode(record)


@given(LONG)
def test_times_are_encoded_as_avro_longs(number: int) -> None:
    assert time_bytes(number) == long(number)


def test_varints_carry_seven_bits_per_byte() -> None:
    assert varint(0) == b"\x00"
    assert varint(127) == b"\x7f"
    assert varint(128) == b"\x80\x01"
    assert long(-1) == b"\x01"
