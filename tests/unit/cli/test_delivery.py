"""The event sender loses no event and retries under the same ids, against a scripted gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from weir.adapters.gateway_client import GatewayClient
from weir.cli.delivery import DeliveryStoppedError, EventSender, RejectedLine
from weir.cli.ndjson import LineBatch, with_id
from weir.embedded.ports import free_port

Events = list[dict[str, Any]]
Reply = tuple[int, dict[str, Any], dict[str, str]]


def taken(events: Events) -> Reply:
    return 202, {"accepted": len(events), "rejected": [], "event_ids": []}, {}


class Peer:
    """Answers what `replies` says, in turn, then takes everything; remembers what it was sent."""

    def __init__(self, *replies: Callable[[Events], Reply]) -> None:
        self._replies = list(replies)
        self.requests: list[Events] = []

    async def answer(self, request: web.Request) -> web.Response:
        events = json.loads(await request.read())
        self.requests.append(events)
        reply = self._replies.pop(0) if self._replies else taken
        status, body, headers = reply(events)
        return web.json_response(body, status=status, headers=headers)


def busy(status: int, retry_after: str = "") -> Callable[[Events], Reply]:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return lambda events: (status, {"title": "busy"}, headers)


def whole_refused(status: int, poison: str) -> Callable[[Events], Reply]:
    """Refuses a request as a whole if the event `poison` is in it."""

    def reply(events: Events) -> Reply:
        if any(event["id"] == poison for event in events):
            return status, {"title": "refused", "detail": "as a whole"}, {}
        return taken(events)

    return reply


@asynccontextmanager
async def delivery_to(
    peer: Peer, *, patience: float = 10, concurrency: int = 1
) -> AsyncIterator[tuple[EventSender, list[RejectedLine]]]:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/events", peer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    refused: list[RejectedLine] = []
    client = GatewayClient(f"http://127.0.0.1:{port}", "a-key", connections=concurrency)
    async with client:
        yield EventSender(client, concurrency, patience, refused.append), refused
    await runner.cleanup()


def source(count: int, size: int = 10) -> Iterator[LineBatch | None]:
    for start in range(0, count, size):
        numbers = range(start, min(count, start + size))
        yield LineBatch([b'{"id":"%d"}' % n for n in numbers], [n + 1 for n in numbers])


async def test_every_event_is_delivered_exactly_once() -> None:
    peer = Peer()
    async with delivery_to(peer, concurrency=4) as (delivery, refused):
        await delivery.run(source(95))
    assert sorted(int(e["id"]) for events in peer.requests for e in events) == list(range(95))
    assert (delivery.tally.read, delivery.tally.accepted, refused) == (95, 95, [])


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_batch_is_retried_with_the_same_ids_after_429_or_5xx(status: int) -> None:
    peer = Peer(busy(status), busy(status))
    async with delivery_to(peer) as (delivery, _):
        await delivery.run(iter([LineBatch([with_id(b'{"event":"x"}')], [1])]))
    assert len(peer.requests) == 3
    assert peer.requests[0] == peer.requests[1] == peer.requests[2]
    assert (delivery.tally.accepted, delivery.tally.retries) == (1, 2)


async def test_the_sender_waits_as_long_as_retry_after_says() -> None:
    peer = Peer(busy(503, "1"))
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with delivery_to(peer) as (delivery, _):
        await delivery.run(source(1))
    assert loop.time() - started >= 1
    assert delivery.tally.accepted == 1


async def test_a_retry_after_beyond_the_patience_stops_delivery_at_once() -> None:
    peer = Peer(busy(429, "3600"))
    async with delivery_to(peer, patience=5) as (delivery, _):
        with pytest.raises(DeliveryStoppedError, match="Gave up after 5 s: busy"):
            await delivery.run(source(30))
    assert len(peer.requests) == 1
    assert delivery.tally.accepted == 0
    assert delivery.tally.undelivered == delivery.tally.read > 0


async def test_an_unreachable_gateway_stops_delivery_with_a_plain_message() -> None:
    client = GatewayClient(f"http://127.0.0.1:{free_port()}", "a-key", connections=1)
    async with client:
        delivery = EventSender(client, 1, 0.3, lambda refused: None)
        with pytest.raises(DeliveryStoppedError, match="nothing answers at http://127"):
            await delivery.run(source(1))
    assert delivery.tally.undelivered == 1


async def test_rejected_events_are_reported_and_the_rest_of_the_batch_is_accepted() -> None:
    def reply(events: Events) -> Reply:
        refusal = {"index": 1, "id": "1", "code": "bad", "field": "value", "message": "no"}
        return 202, {"accepted": len(events) - 1, "rejected": [refusal]}, {}

    async with delivery_to(Peer(reply)) as (delivery, refused):
        await delivery.run(source(3))
    assert refused == [RejectedLine(2, b'{"id":"1"}', "bad", "value", "no")]
    assert (delivery.tally.accepted, delivery.tally.refused) == (2, 1)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_wholly_rejected_request_is_split_until_the_bad_event_is_found(status: int) -> None:
    peer = Peer(*[whole_refused(status, "6")] * 20)
    async with delivery_to(peer) as (delivery, refused):
        await delivery.run(source(10))
    assert [(r.line, r.code, r.text) for r in refused] == [
        (7, f"http_{status}", "refused: as a whole")
    ]
    assert (delivery.tally.accepted, delivery.tally.refused) == (9, 1)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "does not know this write key"), (404, "is --url a Weir gateway"), (403, "403: busy")],
)
async def test_a_permanent_http_error_stops_delivery_after_one_request(
    status: int, expected: str
) -> None:
    peer = Peer(*[busy(status)] * 9)
    async with delivery_to(peer) as (delivery, _):
        with pytest.raises(DeliveryStoppedError, match=expected):
            await delivery.run(source(50))
    assert len(peer.requests) == 1
    assert delivery.tally.undelivered == delivery.tally.read


async def test_invalid_json_lines_are_rejected_without_a_request() -> None:
    peer = Peer()
    async with delivery_to(peer) as (delivery, refused):
        await delivery.run(iter([LineBatch(broken=[(4, b"nope", "not JSON")]), None]))
    assert peer.requests == []
    assert refused == [RejectedLine(4, b"nope", "invalid_json", "", "not JSON")]
    assert (delivery.tally.read, delivery.tally.refused) == (1, 1)


async def test_a_stopped_sender_reads_no_more_and_accounts_for_every_event_read() -> None:
    async with delivery_to(Peer()) as (delivery, _):

        def endless() -> Iterator[LineBatch | None]:
            for batch in source(10_000):
                if delivery.tally.accepted >= 50:
                    delivery.stop()
                yield batch

        await delivery.run(endless())
    tally = delivery.tally
    assert 50 <= tally.accepted < 10_000
    assert tally.read == tally.accepted + tally.undelivered
