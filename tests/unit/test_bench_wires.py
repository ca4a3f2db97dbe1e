"""The load generator speaks each door's language: every event that it would send is taken."""

import json
import time

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from weir.core.registry import Source
from weir.gateway.doors.door import BodyLimits, Door, ParsedEvents, RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records
from weir.gateway.ingest.error_codes import Problem
from weir.gateway.routes import ROUTES, Router

from tests.bench.doors import CASES
from tests.bench.load import Load, Requests
from tests.bench.wires import EVENT_BYTES, WIRES, Sender, make_event, path_of

SENDER = Sender("shop", "shop-write-key", "shop-signing-secret")
SOURCE = Source(id=SENDER.source, signing_secrets=(SENDER.secret,))
CAPS = BodyLimits(2_000, 2 * 1024 * 1024)


def asked_of(request: bytes, now_ms: int) -> tuple[Door, RequestMeta, bytes]:
    """A request as the gateway would see it."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = CIMultiDict[str]()
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name] = value
    found = Router(ROUTES).find(target)
    assert found is not None
    door = found.methods[method]
    assert isinstance(door, Door)
    given = CIMultiDictProxy(headers)
    assert int(given["Content-Length"]) == len(body)
    return door, RequestMeta(method, found.path, "", found.parts, given, "", now_ms, target), body


@pytest.mark.parametrize(("wire", "batch"), CASES)
def test_every_event_of_a_request_is_taken(wire: str, batch: int) -> None:
    url = f"http://127.0.0.1:8080{path_of(WIRES[wire], SENDER)}"
    load = Load(url, SENDER.key, batch=batch, wire=wire, source=SENDER.source, secret=SENDER.secret)
    requests = Requests(load)
    now_ms = int(time.time() * 1000)
    keys = set()
    for _ in range(2):
        door, asked, body = asked_of(requests.take(), now_ms)
        parcel = door.read(asked, body, CAPS)
        assert isinstance(parcel, ParsedEvents)
        claim = parcel.claim or door.claim(asked)
        assert claim is not None
        assert claim.key == SENDER.key
        assert not isinstance(door.verify(asked, body, SOURCE), Problem)
        origin = RecordContext(SourceFields.of(SOURCE), now_ms, Client(door.name, "", ""))
        intake = build_records(parcel, SOURCE, origin)
        assert (len(intake.event_ids), intake.refused) == (batch, [])
        keys |= {key for _, key, _ in intake.records}
    assert len(keys) == 2 * batch
    assert requests.next_id == 2 * batch


@pytest.mark.parametrize("wire", WIRES)
def test_events_are_of_one_size_whatever_the_words(wire: str) -> None:
    event = make_event(7, EVENT_BYTES, WIRES[wire])
    assert len(json.dumps(event, separators=(",", ":"))) == EVENT_BYTES
