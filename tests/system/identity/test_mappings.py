"""A webhook belongs to the person its body names; a changed mapping affects later webhooks only."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.support.running import wait_until
from tests.support.running_weir import KEYS, RunningWeir

PATIENCE = 60
CHANGED = """
sources:
  mapped:
    workspace: mapped
    write_keys: [mapped-write-key]
    mappings: [{event: "*", anonymous_id: device}]
"""


def deliver(weir: RunningWeir, event: str, *bodies: dict[str, Any]) -> None:
    async def post() -> None:
        headers = {"Authorization": f"Bearer {KEYS['mapped']}"}
        async with ClientSession(weir.gateway, headers=headers) as session:
            for body in bodies:
                async with session.post(f"/collect/{event}/mapped", json=body) as response:
                    assert response.status == 202, await response.text()

    asyncio.run(post())
    weir.require_balanced_books()


def people_of(weir: RunningWeir, event: str) -> list[tuple[Any, ...]]:
    """User, device, profile, visits and events of each person who is named by events of a name."""
    return weir.ask(
        "SELECT user_id, anonymous_id, any(profile_id), uniqExactIf(session_id, session_id != ''),"
        f" count() FROM weir.events WHERE source = 'mapped' AND event = '{event}'"
        " GROUP BY user_id, anonymous_id ORDER BY user_id, anonymous_id"
    )


def test_webhooks_are_assigned_to_people_by_the_mapping_in_force_at_their_time(
    weir: RunningWeir, tmp_path: Path
) -> None:
    order = {"customer": {"id": 7}, "device": "phone"}
    deliver(weir, "order-paid", order, order, {"customer": {"id": None}})
    seven = weir.minted("mapped", "u:7")
    paid = [("", "", "", 0, 1), ("7", "", seven, 1, 2)]
    assert people_of(weir, "order-paid") == paid

    file = tmp_path / "sources.yaml"
    file.write_text(CHANGED)
    applied = weir.run("apply", str(file))
    assert applied.returncode == 0, applied.stdout + applied.stderr

    def changed() -> bool:
        deliver(weir, "probe", {"device": "laptop"})
        return any(device == "laptop" for _, device, *_ in people_of(weir, "probe"))

    wait_until(changed, PATIENCE, "the changed mapping")
    deliver(weir, "order-sent", order)
    phone = weir.minted("mapped", "a:phone")
    assert people_of(weir, "order-sent") == [("", "phone", phone, 1, 1)]
    assert people_of(weir, "order-paid") == paid
