"""The same events at every run: a few sources, users with a skew, 1.1 KB each, as JSON and as records."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from weir.adapters import avro
from weir.core.identifiers import dedup_key, identity_key, payload_hash
from weir.core.registry import DAY_SECONDS
from weir.registry.sources_file import DOORS

SEED = 20_260_101
WORKSPACE = "bench"
SOURCES = ("bench-site", "bench-app", "bench-backend")
SHARES = (6, 3, 1)
EVENTS = ("page_view", "product_view", "search", "cart_add", "checkout", "purchase")
EVENT_SHARES = (50, 25, 10, 8, 4, 3)
REPEATED = 0.02  # of the events are sent a second time
LOGGED_IN = 0.4  # of the people carry their user id
PRODUCTS = 500
TEXT = (
    "Solid oak side table with two drawers, hand-finished edges and a shelf for books. "
    "Ships flat in one parcel; assembly takes some twenty minutes and needs no tools. "
)


class Sent(NamedTuple):
    """One event as its client sends it."""

    source: str
    body: bytes  # a JSON object
    idempotency_key: str
    user_id: str
    anonymous_id: str
    event: str
    properties: bytes
    occurred_at: int


def write_key(source: str) -> str:
    return f"{source}-key"


def signing_secret(source: str) -> str:
    return f"{source}-signing-secret"


def sent_events(count: int, now_ms: int, people: int = 0, seed: int = SEED) -> Iterator[Sent]:
    """`count` events whose last is at about `now_ms`, 2,000 a second; `REPEATED` of them repeats.

    `people` (default: a tenth as many) share them with a skew: a few are everywhere, most come by a
    few times. So a batch of 10,000 in time order is of some 5,000 people, as at a busy site.
    """
    chance = random.Random(seed)
    people = people or max(50, count // 10)
    catalogue = [_product(chance, number) for number in range(PRODUCTS)]
    start = now_ms - count // 2
    earlier: list[Sent] = []
    for number in range(count):
        if earlier and chance.random() < REPEATED:
            yield earlier[int(chance.random() * len(earlier))]
            continue
        person = int(people * chance.random() ** 2)
        sent = _event(chance, number, person, start + number // 2, catalogue)
        if number % 7 == 0:
            earlier.append(sent)
        yield sent


def _event(
    chance: random.Random, number: int, person: int, now_ms: int, catalogue: list[dict[str, object]]
) -> Sent:
    source = chance.choices(SOURCES, SHARES)[0]
    name = chance.choices(EVENTS, EVENT_SHARES)[0]
    key = f"bench-{now_ms:x}-{number:08d}"
    user = f"user-{person:06d}" if person % 10 < LOGGED_IN * 10 else ""
    anonymous = f"8a1c55de-{person:08x}-visitor"
    properties = msgspec.json.encode(
        {
            **catalogue[int(PRODUCTS * chance.random() ** 2)],
            "price": round(chance.random() * 300, 2),
            "quantity": 1 + int(chance.random() * 4),
            "position": int(chance.random() * 48),
            "load_ms": int(chance.random() * 2_000),
            "returning": chance.random() < 0.6,
            "page": {
                "path": f"/catalogue/oak/{number % 977}",
                "title": "Oak side table",
                "depth": 3,
            },
        }
    )
    head = {
        "event": name,
        "idempotency_key": key,
        **({"user_id": user} if user else {}),
        "anonymous_id": anonymous,
        "occurred_at": now_ms,
    }
    body = msgspec.json.encode({**head, "properties": msgspec.Raw(properties)})
    return Sent(source, body, key, user, anonymous, name, properties, now_ms)


def _product(chance: random.Random, number: int) -> dict[str, object]:
    """What one product's events have in common: 14 of the 20 properties, some 700 bytes."""
    return {
        "product_id": f"sku-{number:06d}",
        "name": f"Side table no. {number}",
        "category": chance.choice(("tables", "chairs", "lamps", "shelves")),
        "brand": f"brand-{number % 23}",
        "variant": chance.choice(("oak", "walnut", "ash", "birch")),
        "currency": chance.choice(("EUR", "USD", "GBP")),
        "tags": ["new", "indoor", f"collection-{number % 12}"],
        "in_stock": chance.random() < 0.9,
        "weight_kg": round(chance.random() * 40, 1),
        "size": {"width": 45, "depth": 38, "height": 52 + number % 10},
        "rating": round(1 + chance.random() * 4, 1),
        "campaign": f"autumn-{number % 31}",
        "referrer": f"https://search.example/?q=oak+side+table+{number}",
        "description": (TEXT * 3)[: 400 + number % 60],
    }


def registry() -> dict[str, dict[str, object]]:
    """The sources, as `weir apply` takes them."""
    return {
        source: {
            "workspace": WORKSPACE,
            "write_keys": [write_key(source)],
            "signing_secrets": [signing_secret(source)],
            "unsigned_doors": sorted(DOORS - {"suprsend"}),
        }
        for source in SOURCES
    }


class Accepted(NamedTuple):
    """A record of `events.accepted` as the gateway writes it."""

    key: bytes
    value: bytes
    timestamp: int


def accepted_records(sent: Iterator[Sent], seed: int = SEED) -> Iterator[Accepted]:
    """What the gateway would write for these events; `received_at` is `occurred_at`."""
    schema = avro.schemas()["Accepted"]
    chance = random.Random(seed + 1)
    for event in sent:
        identity = identity_key("", event.user_id, event.anonymous_id, "")
        record = {
            "event_id": event.occurred_at.to_bytes(6) + chance.randbytes(10),
            "payload_hash": payload_hash(event.body),
            "received_at": event.occurred_at,
            "source": event.source,
            "workspace": WORKSPACE,
            "dedup_window_seconds": DAY_SECONDS,
            "identity_key": identity,
            "idempotency_key": event.idempotency_key,
            "occurred_at": event.occurred_at,
            "event": event.event,
            "user_id": event.user_id,
            "anonymous_id": event.anonymous_id,
            "client_profile_id": "",
            "client_session_id": "",
            "wants_profile": True,
            "wants_session": True,
            "saved": True,
            "wants_receipt": False,
            "over_quota": False,
            "door": "events",
            "ip": "127.0.0.1",
            "user_agent": "weir-bench/1",
            "value": None,
            "context": "{}",
            "properties": event.properties.decode(),
        }
        key = dedup_key(event.source, event.idempotency_key)
        yield Accepted(key, schema.encode(record), event.occurred_at)
