"""Hears from the workers what they decided about events, for requests that wait for it.

Every process of the gateway reads all receipts and keeps those that its own requests expect: memory
is bound by the requests under way.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from weir.adapters.kafka.clients import Entry
from weir.adapters.kafka.table_entries import DAMAGED
from weir.adapters.receipt_records import decode_receipt
from weir.core.receipts import Receipt


class Waiting:
    """The receipts of one request's events, as they come."""

    def __init__(self, event_ids: Collection[bytes]) -> None:
        self.open = set(event_ids)  # those not heard of yet
        self._come: dict[bytes, Receipt] = {}
        self._complete = asyncio.Event()

    async def wait(self, seconds: float) -> dict[bytes, Receipt]:
        """By event id: all as soon as they are there, after `seconds` what there is."""
        if self.open:
            try:
                async with asyncio.timeout(seconds):
                    await self._complete.wait()
            except TimeoutError:
                pass  # whoever asked says what is still open
        return dict(self._come)

    def take(self, receipt: Receipt) -> None:
        self.open.discard(receipt.event_id)
        self._come[receipt.event_id] = receipt
        if not self.open:
            self._complete.set()


class Receipts:
    """Whatever is said of an event while it is expected reaches whoever expects it. In the event loop only."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Waiting] = {}

    def __len__(self) -> int:
        """How many receipts are outstanding."""
        return len(self._waiting)

    @contextmanager
    def expect(self, event_ids: Collection[bytes]) -> Iterator[Waiting]:
        """To be entered before the events are written; left, however that is, nothing is kept.

        An event is expected by one request only: event ids are minted for it.
        """
        waiting = Waiting(event_ids)
        self._waiting.update(dict.fromkeys(event_ids, waiting))
        try:
            yield waiting
        finally:
            for event_id in waiting.open:
                del self._waiting[event_id]

    def apply(self, entries: Iterable[Entry]) -> None:
        """Records of the topic `receipts`; only those that are expected are read."""
        for event_id, value in entries:
            waiting = self._waiting.get(event_id)
            if waiting is None or value is None:
                continue
            try:
                receipt = decode_receipt(value)
            except DAMAGED:
                continue  # a newer worker's, or damaged: not for this gateway to understand
            del self._waiting[event_id]
            waiting.take(receipt)
