"""Signing decides at every door who must sign, which signatures are valid and what is a repeat."""

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import attempt
from weir.adapters import avro
from weir.core.registry import Source
from weir.gateway.doors.door import Door
from weir.gateway.doors.events import door as events
from weir.gateway.http import signing
from weir.gateway.http.error_codes import Problem
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records
from weir.gateway.ingest.parsed_events import BodyLimits
from weir.gateway.routes import ROUTES
from weir.registry.secret_encryption import SecretEncryption, new_key
from weir.registry.sources_file import DOORS

NOW = 1_764_590_400
SECRET = "a-secret-of-theirs"
SOURCE = Source(id="shop", signing_secrets=("one-that-is-to-go", SECRET))
BODY = b'[{"event": "paid", "user_id": "ada"}, {"event": "paid", "user_id": "ada", "id": "own"}]'


def request(body: bytes = BODY, at: int = NOW, secret: str = SECRET, **changed: Any) -> RequestMeta:
    """Signed as documented; then changed."""
    headers: CIMultiDict[str] = CIMultiDict({"Idempotency-Key": "k"})
    plain = RequestMeta(
        "POST", "/v1/events", "", {}, CIMultiDictProxy(headers), "", NOW * 1_000, "/v1/events?a=1"
    )
    text = f"{at}\nPOST\n/v1/events?a=1\nk\n".encode() + body
    signature = signing.sign(text, secret).decode()
    headers["X-Weir-Signature"] = f"t={at},v1={signature}"
    headers.update({n.replace("_", "-"): v for n, v in changed.items() if n[0].isupper()})
    return msgspec.structs.replace(plain, **{n: v for n, v in changed.items() if n[0].islower()})


def verdict(request_meta: RequestMeta, body: bytes = BODY, source: Source = SOURCE) -> str:
    found = attempt(signing.verify, request_meta, body, source)
    if found is None:
        return "unsigned"
    return found.code if isinstance(found, Problem) else "fine"


def test_a_signature_made_as_documented_is_valid() -> None:
    assert verdict(request()) == "fine"
    assert verdict(request(secret=SOURCE.signing_secrets[0])) == "fine"
    both = request().headers["X-Weir-Signature"] + ",v1=" + "0" * 64
    assert verdict(request(X_Weir_Signature=both)) == "fine"


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "PUT"},
        {"target": "/v1/events"},
        {"target": "/collect/paid/shop?a=1"},
        {"Idempotency_Key": "another"},
        {"X_Weir_Signature": ""},
        {"X_Weir_Signature": f"t={NOW}"},
        {"X_Weir_Signature": f"t={NOW},v1={'0' * 64}"},
        {"X_Weir_Signature": f"t={NOW},v1={'0' * 64}" + f",v1={'1' * 64}" * 20},
        {"X_Weir_Signature": "gr\udcf6\udcdf"},
    ],
    ids=str,
)
def test_a_changed_signed_part_or_malformed_header_makes_the_signature_wrong(
    changed: dict[str, Any],
) -> None:
    assert verdict(request(**changed)) == "wrong_signature"


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_body_byte_makes_the_signature_wrong(place: int, change: int) -> None:
    altered = bytearray(BODY)
    altered[place] ^= change
    assert verdict(request(), bytes(altered)) == "wrong_signature"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "fine"), (-300, "fine"), (300, "fine"), (-301, "wrong_date"), (301, "wrong_date")],
)
def test_a_time_more_than_5_minutes_off_is_refused(seconds: int, expected: str) -> None:
    assert verdict(request(at=NOW + seconds)) == expected


def test_a_signature_is_refused_as_secrets_locked_when_secrets_cannot_be_decrypted() -> None:
    shut = SecretEncryption((new_key(),)).sealed(
        Source(id="shop", signing_secrets=("unknown-here",))
    )
    assert verdict(request(), source=shut) == "secrets_locked"
    assert signing.must_sign(shut, "events")


def test_a_source_with_secrets_must_sign_at_every_door_not_listed_as_unsigned() -> None:
    doors = {route.at.name for route in ROUTES if isinstance(route.at, Door)}
    assert doors == DOORS
    assert all(signing.must_sign(SOURCE, door) for door in doors)
    assert not any(signing.must_sign(Source(id="shop"), door) for door in doors)
    some = msgspec.structs.replace(SOURCE, unsigned_doors=("collect",))
    assert {door for door in doors if not signing.must_sign(some, door)} == {"collect"}
    every = msgspec.structs.replace(SOURCE, unsigned_doors=("*",))
    assert not any(signing.must_sign(every, door) for door in doors)


def keys_of(request_meta: RequestMeta, body: bytes = BODY) -> list[str]:
    """The idempotency keys of what a signed request becomes."""
    parsed = events.DOOR.parse(request_meta, body, BodyLimits(100, 1_000_000))
    signed = signing.verify(request_meta, body, SOURCE)
    assert isinstance(signed, bytes)
    context = RecordContext(
        SourceFields.of(SOURCE), NOW * 1_000, Client("events", "", ""), signed=signed
    )
    records = [
        avro.decode_any(value or b"")[1]
        for _, _, value in build_records(parsed, SOURCE, context).records
    ]
    return [record["idempotency_key"] for record in records]


def test_a_repeated_signed_request_has_the_same_idempotency_keys() -> None:
    first = keys_of(request())
    assert keys_of(request()) == first
    assert first[1] == "own"
    # the other secret signs the same request
    assert keys_of(request(secret=SOURCE.signing_secrets[0])) == first
    other = keys_of(request(at=NOW + 1))
    assert other[0] != first[0]


def test_two_equal_events_in_one_signed_request_have_different_keys() -> None:
    body = b'[{"event": "paid"}, {"event": "paid"}]'
    assert len(set(keys_of(request(body), body))) == 2


def test_an_unsigned_event_without_a_key_gets_a_new_uuid_as_its_key() -> None:
    parsed = events.DOOR.parse(request(), BODY, BodyLimits(100, 1_000_000))
    context = RecordContext(SourceFields.of(SOURCE), NOW * 1_000, Client("events", "", ""))
    (_, _, value), _ = build_records(parsed, SOURCE, context).records
    assert uuid.UUID(avro.decode_any(value or b"")[1]["idempotency_key"]).version == 7
