"""SuprSend's own Python SDK, unmodified, against a host: `python suprsend.py HOST KEY SECRET MARK`.

Prints a JSON object of what it answered. `MARK` tells one run's users and keys from another's. Run by
tests/system/gateway/doors/test_clients.py, with .venv/clients first on the path; by hand with
`PYTHONPATH=.venv/clients python -P tests/clients/suprsend.py ...`, since the script has the package's
own name.
"""

import json
import sys
from typing import Any

from suprsend import Event, Suprsend  # type: ignore[import-not-found]

host, key, secret, mark = sys.argv[1:]
client = Suprsend(key, secret, base_url=host)
said: dict[str, Any] = {}


def track(what: str, event: Event) -> None:
    said[what] = client.track_event(event)


track(
    "event",
    Event("0fxxx8f74-xxxx-41c5-8752-xxxcb6911fb08", "product_purchased", {"first_name": "Ada"}),
)
for attempt in ("keyed", "keyed again"):
    track(
        attempt,
        Event(f"user-{mark}", "new_comment", {"on": 1}, idempotency_key=f"  {mark}-1687437670 "),
    )
track("system event", Event(f"user-{mark}", "$user_login", {"tenant": "x"}, tenant_id="acme"))
attached = Event(f"user-{mark}", "invoice_ready", {"total": 12.5})
attached.add_attachment("https://files.example.com/invoices/1.pdf", "invoice.pdf")
track("attachment", attached)
private = Event(f"user-{mark}", "invoice_ready", {"total": 12.5})
private.add_attachment("http://169.254.169.254/latest/meta-data/")
track("private attachment", private)
local = Event(f"user-{mark}", "invoice_ready", {"total": 12.5})
local.add_attachment(__file__)
track("local attachment", local)
track("too large", Event(f"user-{mark}", "large", {"text": "x" * 102_400}))

bulk = client.bulk_events.new_instance()
bulk.append(Event(f"bulk-{mark}", "opened", {"n": 0}))
bulk.append(Event(f"bulk-{mark}", "opened", {"n": 1, "ss_mine": True}))
bulk.append(*(Event(f"bulk-{mark}", "opened", {"n": n}) for n in range(2, 250)))
response = bulk.trigger()
said["bulk"] = {
    "status": response.status,
    "total": response.total,
    "success": response.success,
    "failure": response.failure,
    "failed": [{"code": one["code"], "error": one["error"]} for one in response.failed_records],
}

wrong = Suprsend(key, secret + "x", base_url=host)
said["wrong secret"] = wrong.track_event(Event("u", "opened"))
refused = wrong.bulk_events.new_instance()
refused.append(Event("u", "opened"))
response = refused.trigger()
said["wrong secret in bulk"] = [response.status, response.failed_records[0]["error"]]
by_api_key = Suprsend.with_workspace_api_key("workspace-uid-0123456789", key, base_url=host)
said["api key"] = by_api_key.track_event(Event("u", "opened"))
print(json.dumps(said))
