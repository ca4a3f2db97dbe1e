"""The gateway enforces a quota soon after it is used up, and names it in the answer."""

import asyncio
from typing import Any

from aiohttp import ClientSession

from tests.support.running import wait_until
from tests.support.running_weir import KEYS, RunningWeir

PATIENCE = 30


async def send(session: ClientSession, source: str, number: int) -> tuple[int, dict[str, Any], str]:
    headers = {"Authorization": f"Bearer {KEYS[source]}"}
    events = [{"event": "hit", "id": f"{source}-{number}-{i}"} for i in range(50)]
    async with session.post("/v1/events", json=events, headers=headers) as response:
        return response.status, await response.json(), response.headers.get("Retry-After", "")


async def send_until_refused(weir: RunningWeir, source: str) -> tuple[int, dict[str, Any], str]:
    async with ClientSession(weir.gateway) as session, asyncio.timeout(PATIENCE):
        for number in range(10_000):
            status, body, retry_after = await send(session, source, number)
            if status != 202:
                return status, body, retry_after
            await asyncio.sleep(0.05)
    raise AssertionError("never refused")


def test_an_exceeded_quota_returns_429_with_its_name_and_retry_after(weir: RunningWeir) -> None:
    status, problem, retry_after = asyncio.run(send_until_refused(weir, "limited"))
    assert status == 429
    assert "small-plan" in problem["detail"]
    assert int(retry_after) > 0
    weir.require_balanced_books()
    quota = "SELECT used >= 100, exceeded FROM weir.quotas WHERE source = 'limited'"
    assert weir.ask(quota) == [(1, True)]


async def send_all(weir: RunningWeir, source: str, requests: int) -> list[int]:
    async with ClientSession(weir.gateway) as session:
        statuses = []
        for number in range(requests):
            statuses.append((await send(session, source, number))[0])
        return statuses


async def send_more(weir: RunningWeir) -> int:
    async with ClientSession(weir.gateway) as session:
        return (await send(session, "marked", 1_000))[0]


def test_events_over_a_marking_quota_are_accepted_and_flagged(weir: RunningWeir) -> None:
    asyncio.run(send_all(weir, "marked", 4))
    over = "SELECT exceeded FROM weir.quotas WHERE source = 'marked'"
    # nobody waits for rates: the books do without it. What ClickHouse has of it gateways have long had
    wait_until(lambda: weir.ask(over) == [(True,)], PATIENCE, "the quota to be used up")
    assert asyncio.run(send_more(weir)) == 202
    weir.require_balanced_books()
    assert weir.ask("SELECT countIf(over_quota) FROM weir.events WHERE source = 'marked'") == [
        (50,)
    ]
