"""Deliver the workers' receipts (what they decided about events) to the requests that wait for them.

Every gateway process reads all receipts and keeps only those that its own requests expect, so its memory
is bounded by the requests in progress.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from weir.adapters.kafka.clients import Entry
from weir.adapters.kafka.table_entries import DAMAGED
from weir.adapters.receipt_records import decode_receipt
from weir.core.receipts import Receipt


class Waiting:
    """The receipts of one request's events, as they arrive."""

    def __init__(self, event_ids: Collection[bytes]) -> None:
        self.open = set(event_ids)  # events without a receipt so far
        self._come: dict[bytes, Receipt] = {}
        self._complete = asyncio.Event()

    async def wait(self, seconds: float) -> dict[bytes, Receipt]:
        """Return the receipts by event id: as soon as all have arrived, or those that have after `seconds`."""
        if self.open:
            try:
                async with asyncio.timeout(seconds):
                    await self._complete.wait()
            except TimeoutError:
                pass  # the caller reports the events without a receipt
        return dict(self._come)

    def take(self, receipt: Receipt) -> None:
        self.open.discard(receipt.event_id)
        self._come[receipt.event_id] = receipt
        if not self.open:
            self._complete.set()


class Receipts:
    """The receipts that requests expect. One that arrives while expected reaches its request. Event loop only."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Waiting] = {}

    def __len__(self) -> int:
        """Return how many receipts are outstanding."""
        return len(self._waiting)

    @contextmanager
    def expect(self, event_ids: Collection[bytes]) -> Iterator[Waiting]:
        """Expect receipts of these events. Enter it before they are written; on any exit nothing is kept.

        Only one request expects an event, because event ids are created for each request.
        """
        waiting = Waiting(event_ids)
        self._waiting.update(dict.fromkeys(event_ids, waiting))
        try:
            yield waiting
        finally:
            for event_id in waiting.open:
                del self._waiting[event_id]

    def apply(self, entries: Iterable[Entry]) -> None:
        """Process records of the topic `receipts`; decode only those that a request expects."""
        for event_id, value in entries:
            waiting = self._waiting.get(event_id)
            if waiting is None or value is None:
                continue
            try:
                receipt = decode_receipt(value)
            except DAMAGED:
                continue  # damaged, or from a newer worker: this gateway cannot decode it
            del self._waiting[event_id]
            waiting.take(receipt)
