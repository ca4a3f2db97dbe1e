"""The same events of 1.1 KB in the words of each door's clients, for the load generator."""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

EVENT_BYTES = 1_100
ID_DIGITS = 12
PLACEHOLDER = b"#" * ID_DIGITS

Event = dict[str, Any]


@dataclass(frozen=True)
class Sender:
    """Whose events they are."""

    source: str
    key: str
    secret: str = ""


def bearer(sender: Sender) -> str:
    return f"Bearer {sender.key}"


def basic(sender: Sender) -> str:
    return "Basic " + base64.b64encode(f"{sender.key}:".encode()).decode()


def signed(sender: Sender, path: str, body: bytes) -> bytes:
    """The header lines of SuprSend's SDK: each request has a signature of its own."""
    date = formatdate(usegmt=True)
    lines = ("POST", hashlib.md5(body).hexdigest(), "application/json", date, path)
    mac = hmac.digest(sender.secret.encode(), "\n".join(lines).encode(), "sha256")
    signature = base64.b64encode(mac).decode()
    return f"Date: {date}\r\nAuthorization: {sender.key}:{signature}\r\n".encode()


@dataclass(frozen=True)
class Wire:
    """How one product's client writes an event, and a request of many."""

    path: str
    event: Callable[[Event], Event]
    body: Callable[[list[Event], Sender], Any]
    authorization: Callable[[Sender], str] | None = bearer
    content_type: str = "application/json"
    sign: Callable[[Sender, str, bytes], bytes] | None = None


def alone(events: list[Event], sender: Sender) -> Any:
    """One event is a body by itself."""
    (event,) = events
    return event


def _valued(event: Event) -> Event:
    """Its properties, with the value among them."""
    return {**event["properties"], "value": event["value"]}


def _tracardi(event: Event) -> Event:
    sent = {"type": event["event"], "id": event["id"], "context": event["context"]}
    return {**sent, "properties": _valued(event)}


def _tracker_payload(events: list[Event], sender: Sender) -> Any:
    return {
        "source": {"id": sender.source},
        "session": {"id": "5ac4ae0a-36ba-4b61-90f3-3a5a2b73a3d9"},
        "profile": {"id": "8be8ba23-cd9d-4137-b4d3-0a41cb01a0d4"},
        "events": events,
    }


def _segment(event: Event) -> Event:
    return {
        "type": "track",
        "event": event["event"],
        "anonymousId": event["anonymous_id"],
        "messageId": event["id"],
        "timestamp": "2026-01-01T12:00:00.000Z",
        "context": event["context"],
        "properties": _valued(event),
    }


def _userflux(event: Event) -> Event:
    return {
        "timestamp": 1_767_225_600_000,
        "userId": None,
        "anonymousId": event["anonymous_id"],
        "name": event["event"],
        "properties": {"order": event["id"], **_valued(event)},
        "deviceData": event["context"],
    }


def _suprsend(event: Event) -> Event:
    return {
        "$insert_id": event["id"],
        "$time": int(time.time() * 1000),
        "event": event["event"],
        "distinct_id": event["anonymous_id"],
        "properties": _valued(event),
    }


def _hitkeep(event: Event) -> Event:
    return {
        "name": event["event"],
        "url": "https://shop.example/p",
        "referrer": "",
        "session_id": event["anonymous_id"],
        "props": {"order": event["id"], **_valued(event)},
    }


def _hackle(event: Event) -> Event:
    """That door takes no nested properties."""
    flat = {k: v for k, v in event["properties"].items() if not isinstance(v, dict | list)}
    return {
        "insertId": event["id"],
        "timestamp": 1_767_225_600_000,
        "identifiers": {"$id": event["anonymous_id"]},
        "eventTypeKey": event["event"],
        "value": event["value"],
        "properties": flat,
    }


def _cloudevent(event: Event) -> Event:
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": "/shop",
        "type": event["event"],
        "subject": event["anonymous_id"],
        "data": _valued(event),
    }


WIRES = {
    "events": Wire("/v1/events", lambda event: event, lambda e, _: e[0] if len(e) == 1 else e),
    "userflux": Wire("/event/ingest/batch", _userflux, lambda e, _: {"events": e}),
    "tracardi": Wire("/track", _tracardi, _tracker_payload),
    "segment": Wire(
        "/v1/batch",
        _segment,
        lambda e, _: {"batch": e, "sentAt": "2026-01-01T12:00:01.000Z"},
        basic,
    ),
    "suprsend": Wire("/v2/event/", _suprsend, alone, None, sign=signed),
    "hitkeep": Wire("/ingest/event", _hitkeep, alone),
    "hackle": Wire("/api/v2/events", _hackle, lambda e, _: {"trackEvents": e}),
    "cloudevents": Wire(
        "/v1/cloudevents", _cloudevent, alone, content_type="application/cloudevents+json"
    ),
    "webhook": Wire(
        "/collect/order/{source}", lambda event: {"order": event["id"], **_valued(event)}, alone
    ),
}


def path_of(wire: Wire, sender: Sender) -> str:
    return wire.path.replace("{source}", sender.source)


def make_event(number: int, size: int = EVENT_BYTES, wire: Wire = WIRES["events"]) -> Event:
    """The event of a number in a wire's words, the same at every run; its JSON has `size` bytes."""
    chance = random.Random(number)
    products = ("mug", "lamp", "chair", "desk", "sofa", "plant", "shelf", "clock")
    properties: Event = {
        "product": chance.choice(products),
        "price": chance.randrange(100, 100_000) / 100,
        "quantity": chance.randrange(1, 5),
        "currency": "EUR",
        "url": f"https://shop.example/p/{chance.randrange(10_000)}?ref=mail",
        "in_stock": chance.random() < 0.9,
        "tags": chance.sample(products, 3),
        "shipping": {"country": "DE", "days": chance.randrange(1, 9), "express": False},
    }
    for index in range(16):
        properties[f"attribute_{index}"] = f"{chance.choice(products)} {chance.randrange(10**6)}"
    event: Event = {
        "event": chance.choice(("page_view", "product_view", "add_to_cart", "order")),
        "anonymous_id": f"visitor-{chance.randrange(100_000):06d}",
        "id": PLACEHOLDER.decode(),
        "value": chance.randrange(0, 10_000) / 100,
        "context": {"page": {"path": "/p", "title": "Shop"}, "locale": "de-DE"},
        "properties": properties,
    }
    properties["note"] = ""
    missing = size - len(_json(wire.event(event)))
    properties["note"] = "n" * max(0, missing)
    return wire.event(event)


def make_body(first: int, batch: int, size: int, wire: Wire, sender: Sender) -> bytes:
    """A request of `batch` events, each with a placeholder for its id."""
    return _json(wire.body([make_event(first + n, size, wire) for n in range(batch)], sender))


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
