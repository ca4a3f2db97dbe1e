"""Calls of HitKeep's documentation, script and servers each become a row in ClickHouse."""

import json
import shlex
import sys
import urllib.request

from tests.support.running_weir import RunningWeir

# As HitKeep documents it, but for its two placeholders.
DOCUMENTED = """\
curl -X POST https://your-hitkeep.example/ingest/event \\
-H "Content-Type: application/json" \\
-d '{
"site_id": "YOUR_SITE_ID",
"name": "purchase",
"url": "https://your-site.com/checkout/success",
"referrer": "",
"props": {
"plan": "pro",
"amount": "49"
}
}'
"""
SESSION = "8f14e45f-ceea-467f-a8d2-0c1f3f7f0a11"
PAGE = {"Origin": "https://www.shop.example"}
KEYED = {"X-Api-Key": "hitkeep-write-key"}
SITE = "shop.example"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def send(url: str, body: str, headers: dict[str, str]) -> None:
    sent_headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, body.encode(), sent_headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert (answer.status, answer.read()) == (202, b"")


def test_hitkeep_calls_become_rows_with_their_session_and_visitor(weir: RunningWeir) -> None:
    _, _, method, url, _, header, _, body = shlex.split(DOCUMENTED.replace("\\\n", " "))
    assert method == "POST"
    url = url.replace("https://your-hitkeep.example", weir.gateway)
    name, _, value = header.partition(": ")
    send(url, body.replace("YOUR_SITE_ID", "hitkeep"), {name: value})

    view = {"path": "/pricing", "u_src": "news", "ua": "Browser/1", "session_id": SESSION}
    send(f"{weir.gateway}/ingest", json.dumps(view), PAGE)
    signup = {"n": "signup", "p": {"plan": "pro"}, "sid": SESSION, "ua": "Browser/1"}
    send(f"{weir.gateway}/ingest/event", json.dumps(signup), PAGE)
    send(f"{weir.gateway}/ingest/event", json.dumps(signup), PAGE | {"DNT": "1"})
    call = {
        "url": "https://shop.example/checkout?utm_source=news",
        "timestamp": "2025-04-15T12:00:00Z",
        "visitor_ip": "203.0.113.7",
        "user_agent": "Visitor/1",
        "name": "refund",
    }
    for kind in ("event", "pageview"):
        send(f"{weir.gateway}/api/ingest/server/{kind}", json.dumps(call), KEYED)

    weir.require_balanced_books()
    rows = weir.ask(
        "SELECT event, user_agent, toJSONString(properties) FROM weir.events"
        " WHERE source = 'hitkeep' ORDER BY received_at"
    )
    url = call["url"]
    assert [(event, agent, json.loads(properties)) for event, agent, properties in rows] == [
        ("purchase", f"Python-urllib/{VERSION}", {"plan": "pro", "amount": "49"}),
        ("page_view", "Browser/1", {"host": SITE, "path": "/pricing", "utm_source": "news"}),
        ("signup", "Browser/1", {"plan": "pro"}),
        ("refund", "Visitor/1", {}),
        (
            "page_view",
            "Visitor/1",
            {"host": SITE, "path": "/checkout", "url": url, "utm_source": "news"},
        ),
    ]
    assert weir.ask(
        "SELECT uniqExact(profile_id), uniqExact(session_id), count() FROM weir.events"
        f" WHERE source = 'hitkeep' AND session_id = '{SESSION}'"
    ) == [(1, 1, 2)]
    assert weir.ask(
        "SELECT event FROM weir.events WHERE source = 'hitkeep' AND profile_id = ''"
        " AND session_id = '' ORDER BY received_at"
    ) == [("purchase",), ("refund",), ("page_view",)]
    assert weir.ask(
        "SELECT DISTINCT ip, toUnixTimestamp(occurred_at) FROM weir.events"
        " WHERE source = 'hitkeep' AND user_agent = 'Visitor/1'"
    ) == [("203.0.113.7", 1_744_718_400)]
