"""A read key finds the status of events of its own sources only, with a fitting HTTP status."""

import asyncio
import json
import threading

import pytest

from weir.core.registry import Source, hash_key
from weir.event_status.model import EventStatus
from weir.gateway.api.event_status import answer_of, readable
from weir.gateway.api.finding import WAITING, EventFinder
from weir.gateway.http.error_codes import Problem

SOURCES = [
    Source(
        id="shop",
        write_key_hashes=(hash_key("shop-write"),),
        read_key_hashes=(hash_key("both"), hash_key("shop-read")),
    ),
    Source(id="app", read_key_hashes=(hash_key("both"),), admin_key_hashes=(hash_key("admin"),)),
    Source(id="off", enabled=False, read_key_hashes=(hash_key("off"), hash_key("both"))),
]


@pytest.mark.parametrize(
    ("key", "wanted", "scope"),
    [
        ("shop-read", "", ("shop",)),
        ("admin", "", ("app",)),
        ("both", "", ("app", "shop")),
        ("both", "app", ("app",)),
        ("both", "off", "forbidden"),
        ("shop-read", "app", "forbidden"),
        ("shop-write", "", "forbidden"),
        ("shop-write", "shop", "forbidden"),
        ("off", "", "unauthorized"),
        ("", "", "unauthorized"),
        ("other", "shop", "unauthorized"),
    ],
)
def test_a_key_reads_event_status_of_its_own_sources_only(
    key: str, wanted: str, scope: tuple[str, ...] | str
) -> None:
    found = readable(key, wanted, SOURCES)
    assert (found.code if isinstance(found, Problem) else found) == scope


@pytest.mark.parametrize(
    ("where", "status"),
    [
        (EventStatus(id="k", fate="queued", stage="dedup", event_id="e"), 200),
        (EventStatus(id="k", fate="unknown", event_id="e", certain=False), 200),
        (EventStatus(id="k", fate="unknown"), 404),
        (EventStatus(id="k", fate="unknown", notes=("away",), certain=False), 503),
    ],
)
def test_event_status_maps_to_http_200_404_or_503(where: EventStatus, status: int) -> None:
    answer = answer_of(where)
    assert answer.status == status
    body = json.loads(answer.body)
    assert (body["id"], body["fate"]) == ("k", where.fate)
    assert (b"Retry-After" in answer.headers) is (status == 503)


class Slow:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def find(self, sought: str, scope: tuple[str, ...] | None, seconds: float) -> EventStatus:
        self.let.wait(30)
        return EventStatus(id=sought, fate="stored")


def test_event_lookups_beyond_the_waiting_cap_are_refused_as_overloaded() -> None:
    async def ask_many() -> None:
        slow = Slow()
        finding = EventFinder(slow)
        try:
            asked = [asyncio.create_task(finding.find(str(n), ("shop",))) for n in range(WAITING)]
            await asyncio.sleep(0)
            refused = await finding.find("one more", ("shop",))
            assert isinstance(refused, Problem)
            assert refused.code == "overloaded"
            slow.let.set()
            assert [w.id for w in await asyncio.gather(*asked) if isinstance(w, EventStatus)] == [
                str(n) for n in range(WAITING)
            ]
            assert isinstance(await finding.find("again", ("shop",)), EventStatus)
        finally:
            slow.let.set()
            finding.close()

    asyncio.run(ask_many())
