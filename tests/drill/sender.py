"""A producer that never gives up and never trusts: each batch again and again, under the same keys."""

import http.client
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

BATCH = 40
REPEATS = 4  # of earlier events in each batch
TIMES = 3  # that each batch is sent and acknowledged
PEOPLE = 200
REST_SECONDS = 0.05  # between batches: load all the while, not all there is
LONG_REST_SECONDS = 1.0  # where other tests need the machine, too
RETRY_SECONDS = 0.1
PATIENCE_SECONDS = 180.0
ANSWER_SECONDS = 20.0


@dataclass
class Sent:
    """What a sender knows: the only witness that is not Weir's own."""

    events: int = 0  # acknowledged, repeats among them
    distinct: int = 0
    retries: int = 0  # requests that were not acknowledged: their events may be in, or not


class Sender:
    """Sends from `with` on. After it, every event that was tried has been acknowledged."""

    def __init__(
        self, port: int, source: str, key: str, seed: int, rest: float = REST_SECONDS
    ) -> None:
        self.sent = Sent()
        self._rest = rest
        self._port = port
        self._source = source
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1, "sender")

    def __enter__(self) -> "Sender":
        self._sending = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._pool:
            self._sending.result()

    def _run(self) -> None:
        while not self._over.is_set():
            batch = self._batch()
            for _ in range(TIMES):
                self._send(batch)
            self._over.wait(self._rest)

    def _batch(self) -> list[dict[str, object]]:
        first = self.sent.distinct
        self.sent.distinct += BATCH
        numbers = list(range(first, first + BATCH))
        for _ in range(REPEATS):
            numbers.insert(self._chance.randrange(BATCH), self._chance.randrange(first + BATCH))
        return [self._event(number) for number in numbers]

    def _event(self, number: int) -> dict[str, object]:
        return {
            "event": "drilled",
            "idempotency_key": f"{self._source}-{number}",
            "user_id": 1 + number % PEOPLE,  # 0 is nobody's id
            "properties": {"number": number},
        }

    def _send(self, events: list[dict[str, object]]) -> None:
        body = json.dumps(events).encode()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (status := self._post(body)) != 202:
            if 400 <= status < 500 and status != 429:
                raise RuntimeError(f"the gateway refused a valid batch: {status}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not acknowledged within {PATIENCE_SECONDS:g} s")
            self.sent.retries += 1
            time.sleep(RETRY_SECONDS)
        self.sent.events += len(events)

    def _post(self, body: bytes) -> int:
        """The status; 0: no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", "/v1/events", body, self._headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
