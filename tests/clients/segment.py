"""Segment's own Python SDK, unmodified, against a host: `python segment.py HOST WRITE_KEY [gzip]`.

Prints a JSON object of what it logged and how many calls it had to give up. Run by
tests/system/gateway/doors/test_clients.py, with .venv/clients first on the path; by hand with
`PYTHONPATH=.venv/clients python -P tests/clients/segment.py ...`, since the script has the package's name.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from segment.analytics.client import Client  # type: ignore[import-not-found]

host, write_key, *options = sys.argv[1:]
given_up: list[str] = []


class Said(logging.Handler):
    """Everything from a warning on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


said = Said()
logging.getLogger("segment").addHandler(said)
analytics = Client(
    write_key,
    host=host,
    gzip="gzip" in options,
    on_error=lambda fault, batch: given_up.append(f"{len(batch)} calls: {fault}"),
)
at = datetime(2026, 3, 1, 12, tzinfo=UTC)

# An anonymous visitor looks at a page, and becomes a user
analytics.page(
    anonymous_id="visitor-1", category="Docs", name="Pricing", properties={"url": "/pricing"}
)
analytics.alias(previous_id="visitor-1", user_id="019mr8mf4r")
analytics.identify("019mr8mf4r", {"email": "pgibbons@example.com", "name": "Peter Gibbons"})
analytics.group("019mr8mf4r", "8e9df332ac", {"name": "Initech", "employees": 420})
analytics.track(
    "019mr8mf4r",
    "Order Completed",
    {"revenue": 14.99, "products": [{"sku": "mat-1"}]},
    context={"ip": "24.5.68.47"},
    integrations={"All": False},
)
analytics.track("019mr8mf4r", "imported", timestamp=at)
analytics.screen("019mr8mf4r", name="Home", properties={"dark": True})
# The same call again, as a client that heard no answer sends it
for _ in range(2):
    analytics.track("019mr8mf4r", "Once", {"n": 1}, timestamp=at, message_id="message-1")
analytics.flush()
analytics.shutdown()

print(json.dumps({"logged": said.lines, "given_up": given_up}))
