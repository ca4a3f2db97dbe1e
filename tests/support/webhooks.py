"""Webhook deliveries for the system tests: real ones where they are, else a generated stand-in."""

import gzip
import json
from typing import Any

from weir.core.resource_paths import ROOT

WEBHOOKS = ROOT.parent / "shared" / "data" / "github-webhooks.ndjson.gz"
STAND_IN_NOTE = f"{WEBHOOKS.name} is not here: the webhook test ran on a generated stand-in."
STAND_IN_COUNT = 60

Delivery = dict[str, Any]  # `type` is the event's name, `payload` its body


def deliveries() -> list[Delivery]:
    """Every delivery, in order."""
    if WEBHOOKS.exists():
        with gzip.open(WEBHOOKS, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    return [_stand_in(number) for number in range(STAND_IN_COUNT)]


def _stand_in(number: int) -> Delivery:
    """Nested, with lists, nulls, text beyond ASCII, and other fields in every kind."""
    kinds: dict[str, dict[str, Any]] = {
        "push": {"ref": "refs/heads/main", "commits": [{"id": f"{number:040x}", "added": []}]},
        "issues": {"action": "opened", "issue": {"number": number, "title": "größer 東京"}},
        "star": {"action": "created", "starred_at": None},
    }
    kind = list(kinds)[number % len(kinds)]
    repository = {"id": number % 7, "full_name": f"weir/example-{number % 7}", "owner": {"id": 1}}
    return {"type": kind, "payload": {**kinds[kind], "repository": repository}}
