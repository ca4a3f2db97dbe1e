"""A request receives the receipts of its own events only and leaves no state behind."""

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


def test_a_wait_returns_as_soon_as_all_expected_receipts_have_arrived() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:2]) as waiting:
            asyncio.get_running_loop().call_soon(receipts.apply, entries(IDS[0]))
            asyncio.get_running_loop().call_soon(receipts.apply, entries(IDS[2], IDS[1]))
            come = await waiting.wait(LONG)
        assert come == {event_id: receipt_of(event_id) for event_id in IDS[:2]}
        assert len(receipts) == 0

    asyncio.run(story())


def test_a_receipt_that_arrives_before_the_wait_is_returned() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:1]) as waiting:
            receipts.apply(entries(IDS[0]))
            assert set(await waiting.wait(0)) == {IDS[0]}

    asyncio.run(story())


def test_a_timed_out_wait_returns_arrived_receipts_and_names_the_open_ones() -> None:
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


def test_concurrent_requests_receive_only_receipts_of_their_own_events() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:2]) as one, receipts.expect(IDS[2:]) as other:
            receipts.apply(entries(*reversed(IDS)))
            assert set(await one.wait(LONG)) == set(IDS[:2])
            assert set(await other.wait(LONG)) == set(IDS[2:])

    asyncio.run(story())


def test_a_failed_or_cancelled_request_leaves_no_expected_receipts() -> None:
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


def test_a_wait_without_expected_receipts_returns_at_once() -> None:
    async def story() -> None:
        with Receipts().expect([]) as waiting:
            assert await waiting.wait(LONG) == {}

    asyncio.run(story())


def test_a_receipt_of_an_unknown_schema_version_is_ignored() -> None:
    async def story() -> None:
        receipts = Receipts()
        with receipts.expect(IDS[:2]) as waiting:
            receipts.apply([(IDS[0], b"\xc3\x01newer..."), *entries(IDS[1])])
            assert set(await waiting.wait(0)) == {IDS[1]}

    asyncio.run(story())
