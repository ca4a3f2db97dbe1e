"""The gateway accepts every event that the load generator would send to any of its APIs."""

import json
import time

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from tests.bench.doors import CASES
from tests.bench.load import Load, Requests
from tests.bench.wires import EVENT_BYTES, WIRES, Sender, make_event, path_of
from weir.core.registry import Source
from weir.gateway.doors.door import Door
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records
from weir.gateway.ingest.parsed_events import BodyLimits
from weir.gateway.routes import ROUTES, Router

SENDER = Sender("shop", "shop-write-key", "shop-signing-secret")
SOURCE = Source(id=SENDER.source, signing_secrets=(SENDER.secret,))
LIMITS = BodyLimits(2_000, 2 * 1024 * 1024)


def request_of(request: bytes, now_ms: int) -> tuple[Door, RequestMeta, bytes]:
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
def test_every_event_of_a_generated_request_is_accepted(wire: str, batch: int) -> None:
    url = f"http://127.0.0.1:8080{path_of(WIRES[wire], SENDER)}"
    load = Load(url, SENDER.key, batch=batch, wire=wire, source=SENDER.source, secret=SENDER.secret)
    requests = Requests(load)
    now_ms = int(time.time() * 1000)
    keys = set()
    for _ in range(2):
        door, request_meta, body = request_of(requests.take(), now_ms)
        events = door.parse(request_meta, body, LIMITS)
        credentials = events.credentials or door.credentials(request_meta)
        assert credentials is not None
        assert credentials.key == SENDER.key
        door.verify(request_meta, body, SOURCE)  # raises if the signature is wrong
        context = RecordContext(SourceFields.of(SOURCE), now_ms, Client(door.name, "", ""))
        records = build_records(events, SOURCE, context)
        assert (len(records.event_ids), records.refused) == (batch, [])
        keys |= {key for _, key, _ in records.records}
    assert len(keys) == 2 * batch
    assert requests.next_id == 2 * batch


@pytest.mark.parametrize("wire", WIRES)
def test_generated_events_have_the_same_size_for_every_api(wire: str) -> None:
    event = make_event(7, EVENT_BYTES, WIRES[wire])
    assert len(json.dumps(event, separators=(",", ":"))) == EVENT_BYTES
