"""Delivers batches to a gateway: several at a time, retried with the same ids until they are accepted."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from weir.adapters.gateway_client import GatewayClient, GatewayResponse, GatewayUnreachableError
from weir.cli.ndjson import LineBatch

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
SETTLED = frozenset({200, 202, 422})
SPLIT = frozenset({400, 413, 422})
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 15.0


class DeliveryStoppedError(Exception):
    """The delivery cannot continue; the text is one sentence that says why."""


@dataclass(frozen=True)
class RejectedLine:
    """One line that was rejected for good, with the gateway's reason, or ours if the line is not JSON."""

    line: int
    event: bytes
    code: str
    field: str
    text: str


@dataclass
class DeliveryCounts:
    """The outcomes of the events so far."""

    read: int = 0
    accepted: int = 0
    refused: int = 0
    undelivered: int = 0
    retries: int = 0
    trouble: str = ""  # why the delivery waits now; empty: it does not wait


@dataclass
class EventSender:
    """Sends batches with `concurrency` requests in flight; each batch is retried for `patience` seconds."""

    client: GatewayClient
    concurrency: int
    patience: float
    on_refused: Callable[[RejectedLine], None]
    tally: DeliveryCounts = field(default_factory=DeliveryCounts)
    stopping: bool = False
    _stopped: str = ""

    async def run(self, source: Iterator[LineBatch | None]) -> None:
        """Send all batches. On return `tally` accounts for every event read. `DeliveryStoppedError` if it gave up."""
        queue: asyncio.Queue[LineBatch] = asyncio.Queue(self.concurrency)
        workers = [asyncio.create_task(self._work(queue)) for _ in range(self.concurrency)]
        try:
            while not self.stopping:
                batch = await asyncio.to_thread(next, source, END)
                if batch is END:
                    break
                if isinstance(batch, LineBatch):
                    self._take(batch)
                    await queue.put(batch)
            await queue.join()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._stopped:
            raise DeliveryStoppedError(self._stopped)

    def stop(self) -> None:
        """Stop reading and retrying; requests in flight are still awaited."""
        self.stopping = True

    def _take(self, batch: LineBatch) -> None:
        self.tally.read += len(batch.events) + len(batch.broken)
        for line, text, fault in batch.broken:
            self._refuse(RejectedLine(line, text, "invalid_json", "", fault))

    async def _work(self, queue: "asyncio.Queue[LineBatch]") -> None:
        while True:
            batch = await queue.get()
            if batch.events:
                await self._deliver(batch)
            queue.task_done()

    async def _deliver(self, batch: LineBatch) -> None:
        if self.stopping:
            self.tally.undelivered += len(batch.events)
            return
        answer = await self._answer(batch)
        if answer is None:
            self.tally.undelivered += len(batch.events)
        elif _is_unexplained(answer) and len(batch.events) > 1:
            for half in batch.halves():
                await self._deliver(half)
        elif _is_unexplained(answer):
            refused = RejectedLine(
                batch.lines[0], batch.events[0], f"http_{answer.status}", "", answer.problem
            )
            self._refuse(refused)
        elif answer.status in SETTLED:
            self._count_outcome(batch, answer)
        else:
            self.tally.undelivered += len(batch.events)
            self._stop_for(_sentence(answer))

    async def _answer(self, batch: LineBatch) -> GatewayResponse | None:
        """Return the first final answer; None if there was none within `patience` seconds or before `stop()`."""
        body = batch.body()
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.patience
        wait = FIRST_WAIT_SECONDS
        while True:
            asked = 0.0
            try:
                answer = await self.client.post(body)
                if answer.status not in RETRIED:
                    self.tally.trouble = ""
                    return answer
                trouble = answer.problem or f"the gateway answered {answer.status}"
                asked = answer.retry_after
            except GatewayUnreachableError as error:
                trouble = str(error)
            pause = max(asked, random.uniform(wait / 2, wait))  # jitter, so that retries spread
            if self.stopping:
                return None
            if loop.time() + pause > give_up:
                self._stop_for(f"Gave up after {self.patience:g} s: {trouble}")
                return None
            self.tally.trouble = trouble
            self.tally.retries += 1
            await self._pause(pause)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self.stopping and (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, 0.1))

    def _count_outcome(self, batch: LineBatch, answer: GatewayResponse) -> None:
        for refusal in answer.rejected:
            place = refusal.index
            self._refuse(
                RejectedLine(
                    batch.lines[place],
                    batch.events[place],
                    refusal.code,
                    refusal.field or "",
                    refusal.message,
                )
            )
        self.tally.accepted += answer.accepted
        unexplained = len(batch.events) - answer.accepted - len(answer.rejected)
        self.tally.undelivered += max(0, unexplained)

    def _refuse(self, refused: RejectedLine) -> None:
        self.tally.refused += 1
        self.on_refused(refused)

    def _stop_for(self, reason: str) -> None:
        self._stopped = self._stopped or reason
        self.stop()


END = object()


def _is_unexplained(answer: GatewayResponse) -> bool:
    """Check whether the whole request was rejected without naming events; then it is halved to find the bad one."""
    return answer.status in SPLIT and not answer.rejected


def _sentence(answer: GatewayResponse) -> str:
    if answer.status == 401:
        return "The gateway does not know this write key: see `weir apply`."
    if answer.status == 404:
        return "This address does not accept events: is --url a Weir gateway?"
    return f"The gateway answered {answer.status}: {answer.problem or 'no reason given'}."
