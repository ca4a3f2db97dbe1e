"""Each webhook delivery through either door becomes a row, and each repeat a duplicate."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.running_weir import KEYS, RunningWeir
from tests.support.webhooks import Delivery, deliveries


async def collect(weir: RunningWeir, delivered: list[Delivery]) -> list[int]:
    headers = {"Authorization": f"Bearer {KEYS['github']}"}
    statuses = []
    async with ClientSession(weir.gateway, headers=headers) as session:
        for delivery in delivered:
            path = f"/collect/{delivery['type']}/github"
            async with session.post(path, json=delivery["payload"]) as response:
                statuses.append(response.status)
    return statuses


def ndjson(folder: Path, delivered: list[Delivery]) -> str:
    path = folder / "deliveries.ndjson"
    with path.open("w", encoding="utf-8") as file:
        for number, delivery in enumerate(delivered):
            event: dict[str, Any] = {
                "event": delivery["type"],
                "idempotency_key": f"delivery-{number}",
                "properties": delivery["payload"],
            }
            file.write(json.dumps(event) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def sent(weir: RunningWeir, tmp_path_factory: pytest.TempPathFactory) -> list[Delivery]:
    """All deliveries, through `/collect` once and through `/v1/events` twice with the same keys."""
    delivered = deliveries()
    assert asyncio.run(collect(weir, delivered)) == [202] * len(delivered)
    file = ndjson(tmp_path_factory.mktemp("webhooks"), delivered)
    for _ in range(2):
        result = weir.run("send", file, "--url", weir.gateway, "--key", KEYS["github"], "--gzip")
        assert result.returncode == 0, result.stdout + result.stderr
    weir.require_balanced_books()
    return delivered


def test_each_delivery_is_one_row_per_door_and_each_repeat_a_duplicate(
    weir: RunningWeir, sent: list[Delivery]
) -> None:
    count = len(sent)
    by_door = "SELECT count() FROM weir.events WHERE source = 'github' GROUP BY door"
    assert weir.ask(by_door) == [(count,), (count,)]
    repeats = "SELECT count(), countIf(same_payload) FROM weir.duplicates WHERE source = 'github'"
    assert weir.ask(repeats) == [(count, count)]


def test_a_webhook_row_has_no_profile_and_no_session(
    weir: RunningWeir, sent: list[Delivery]
) -> None:
    assert weir.ask(
        "SELECT uniqExact(profile_id), any(profile_id), any(session_id)"
        " FROM weir.events WHERE source = 'github'"
    ) == [(1, "", "")]


def test_nested_webhook_paths_can_be_queried_as_columns(
    weir: RunningWeir, sent: list[Delivery]
) -> None:
    expected: dict[str, int] = {}
    for delivery in sent:
        name = delivery["payload"].get("repository", {}).get("full_name")
        if name:
            expected[name] = expected.get(name, 0) + 2
    found = weir.ask(
        "SELECT properties.repository.full_name::String AS repository, count() FROM weir.events"
        " WHERE source = 'github' AND repository != '' GROUP BY repository"
    )
    assert dict(found) == expected
    assert expected
