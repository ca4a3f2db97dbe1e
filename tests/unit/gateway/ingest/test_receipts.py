"""Requests hear of their own events, and leave nothing behind."""

import asyncio

import pytest

from weir.adapters.kafka.clients import Entry
from weir.adapters.receipt_records import encode_receipt
from weir.core.receipts import Receipt
from weir.gateway.ingest.receipts import Receipts

LONG = 60.0  # never waited for: whoever waits this long has what it wants before
IDS = [bytes([n]) * 16 for n in range(4)]


def receipt_of(event_id: bytes, profile_id: str = "p") -> Receipt:
    return Receipt(
        event_id=event_id,
        step="identity",
        outcome="resolved",
        received_at=1_760_011_200_000,
        profile_id=profile_id,
    )


def entries(*event_ids: bytes) -> list[Entry]:
    return [encode_receipt(receipt_of(event_id)) for event_id in event_ids]


def test_all_that_is_expected_is_given_as_soon_as_it_has_come() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:2]) as waiting:
            asyncio.get_running_loop().call_soon(receipts.apply, entries(IDS[0]))
            asyncio.get_running_loop().call_soon(receipts.apply, entries(IDS[2], IDS[1]))
            come = await waiting.wait(LONG)
        assert come == {event_id: receipt_of(event_id) for event_id in IDS[:2]}
        assert len(receipts) == 0

    asyncio.run(story())


def test_what_comes_before_the_wait_counts() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:1]) as waiting:
            receipts.apply(entries(IDS[0]))
            assert set(await waiting.wait(0)) == {IDS[0]}

    asyncio.run(story())


def test_after_the_time_there_is_what_has_come_and_the_rest_is_named() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:3]) as waiting:
            receipts.apply(entries(IDS[1]))
            assert set(await waiting.wait(0)) == {IDS[1]}
            assert waiting.open == {IDS[0], IDS[2]}
            assert len(receipts) == 2
        assert len(receipts) == 0
        receipts.apply(entries(*IDS))  # too late: nobody expects it, nothing is kept
        assert len(receipts) == 0

    asyncio.run(story())


def test_requests_side_by_side_hear_of_their_own_events_only() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:2]) as one, receipts.expect(IDS[2:]) as other:
            receipts.apply(entries(*reversed(IDS)))
            assert set(await one.wait(LONG)) == set(IDS[:2])
            assert set(await other.wait(LONG)) == set(IDS[2:])

    asyncio.run(story())


def test_a_request_that_fails_or_is_cancelled_leaves_nothing() -> None:
    async def story() -> None:
        receipts = Receipts()
        with pytest.raises(ZeroDivisionError), receipts.expect(IDS):
            raise ZeroDivisionError

        async def request() -> None:
            with receipts.expect(IDS) as waiting:
                await waiting.wait(LONG)

        task = asyncio.create_task(request())
        while len(receipts) < len(IDS):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(receipts) == 0

    asyncio.run(story())


def test_nothing_expected_is_not_waited_for() -> None:
    async def story() -> None:
        with Receipts().expect([]) as waiting:
            assert await waiting.wait(LONG) == {}

    asyncio.run(story())


def test_what_an_unknown_version_says_is_passed_over() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:2]) as waiting:
            receipts.apply([(IDS[0], b"\xc3\x01newer..."), *entries(IDS[1])])
            assert set(await waiting.wait(0)) == {IDS[1]}

    asyncio.run(story())
