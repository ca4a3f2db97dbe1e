"""Hackle's own Python SDK, unmodified, against a host: `python hackle.py HOST SDK_KEY`.

Prints a JSON object of what it logged. Run by tests/system/gateway/doors/test_clients.py, with .venv/clients first
on the path; by hand with `PYTHONPATH=.venv/clients python -P tests/clients/hackle.py ...`, since the
script has the package's own name.
"""

import json
import logging
import sys

from hackle.config import HackleConfig  # type: ignore[import-not-found]
from hackle.hackle import Client  # type: ignore[import-not-found]
from hackle.internal.metrics.metrics import Metrics  # type: ignore[import-not-found]
from hackle.model import (  # type: ignore[import-not-found]
    Hackle,
    HackleUser,
    PropertyOperations,
)

host, sdk_key = sys.argv[1:]


class Said(logging.Handler):
    """Everything from a warning on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


said = Said()
logger = logging.getLogger("hackle-client")
logger.addHandler(said)
config = HackleConfig.builder().sdk_url(host).event_url(host).monitoring_url(host).build()
hackle_client = Client(sdk_key, logger=logger, config=config)

# Example 1: the event key alone
event = Hackle.event(key="purchase")
user = Hackle.user("ae2182e0")
hackle_client.track(event=event, user=user)

# Example 2: the event key and a numeric value
event = Hackle.event(key="purchase", value=13200)
hackle_client.track(event=event, user=user)

# Three properties; one of None, which the SDK leaves out
event = Hackle.event(
    key="purchase", pay_method="CARD", discount_amount=800, is_discount=True, coupon=None
)
hackle_client.track(event, user)

# A user known by more than one identifier, in a visit of its own
known = (
    HackleUser.builder()
    .user_id("ae2182e0")
    .device_id("device-1")
    .session_id("visit-1")
    .identifier("customerId", 77)
    .property("grade", "GOLD")
    .build()
)
hackle_client.track(Hackle.event(key="login"), known)
hackle_client.update_user_properties(PropertyOperations.builder().set("age", 30).build(), known)

# What the SDK refuses by itself: a value that is not numeric
hackle_client.track(Hackle.event(key="purchase", value="13200"), user)

decided = {
    "variation": hackle_client.variation(42, user),
    "feature": hackle_client.is_feature_on(7, user),
    "remote_config": hackle_client.remote_config(user).get("color", "red"),
}
hackle_client.close()  # sends what waits
Metrics._Metrics__global_registry.close()  # posts its metrics now, not at the full minute
print(json.dumps({"logged": said.lines, "decided": decided}))
