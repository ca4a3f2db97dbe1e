"""Events of the products' published clients, unmodified but for the host, each become a row."""

import json
import urllib.request

from tests.support.official import run_client
from tests.support.running_weir import RunningWeir

HACKLE_KEY = "hackle-write-key"
HACKLE_ROWS = (
    "SELECT event, user_id, anonymous_id, if(session_given, session_id, ''), value,"
    " toJSONString(properties)"
    " FROM weir.events WHERE source = 'hackle' AND event IN ('purchase', 'login', '$properties')"
    " ORDER BY event, value, toJSONString(properties)"
)


def test_events_of_the_hackle_sdk_become_rows_of_one_person(weir: RunningWeir) -> None:
    output = json.loads(run_client("hackle", weir.gateway, HACKLE_KEY))
    assert output["logged"] == [  # of the event that the SDK refuses by itself
        "Invalid event for track: [Invalid event value: {} (expected: finite number)]"
    ]
    weir.require_balanced_books()
    rows = weir.ask(HACKLE_ROWS)
    assert [(*row[:5], json.loads(row[5])) for row in rows] == [
        ("$properties", "ae2182e0", "device-1", "visit-1", None, {"$set": {"age": 30}}),
        ("login", "ae2182e0", "device-1", "visit-1", None, {}),
        ("purchase", "ae2182e0", "", "", 13200.0, {}),
        ("purchase", "ae2182e0", "", "", None,
         {"pay_method": "CARD", "discount_amount": 800, "is_discount": True}),
        ("purchase", "ae2182e0", "", "", None, {}),
    ]  # fmt: skip
    people = "SELECT uniqExact(profile_id) FROM weir.events WHERE source = 'hackle'"
    assert weir.ask(people) == [(1,)]


def test_hackle_exposures_and_goals_belong_to_the_same_person(weir: RunningWeir) -> None:
    sent = {
        "identifiers": {"$id": "exposed-1"},
        "experimentId": 1001,
        "experimentKey": 42,
        "experimentType": "AB_TEST",
        "variationId": 12,
        "variationKey": "B",
        "decisionReason": "TRAFFIC_ALLOCATED",
    }
    goal = {"identifiers": {"$id": "exposed-1"}, "eventTypeKey": "converted", "value": 5}
    body = json.dumps({"exposureEvents": [sent], "trackEvents": [goal]}).encode()
    headers = {"X-HACKLE-SDK-KEY": HACKLE_KEY, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{weir.gateway}/api/v2/events", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert (answer.status, answer.read()) == (202, b"{}")
    weir.require_balanced_books()
    assert weir.ask(
        "SELECT experiment, variation, converted.value FROM weir.exposures AS exposed"
        " JOIN weir.events AS converted ON converted.profile_id = exposed.profile_id"
        " WHERE exposed.source = 'hackle' AND converted.event = 'converted'"
    ) == [("42", "B", 5.0)]


SUPRSEND_KEY, SUPRSEND_SECRET = "notifications-workspace-key", "notifications-workspace-secret"
SUPRSEND_ROWS = (
    "SELECT event, user_id, count(), any(toJSONString(properties)), any(toJSONString(context))"
    " FROM weir.events WHERE source = 'notifications' GROUP BY event, user_id ORDER BY event"
)


def test_events_of_the_suprsend_sdk_become_rows_duplicates_and_rejected_events(
    weir: RunningWeir,
) -> None:
    output = json.loads(run_client("suprsend", weir.gateway, SUPRSEND_KEY, SUPRSEND_SECRET, "ada"))
    taken = ("event", "keyed", "keyed again", "system event", "attachment")
    assert [output[what]["status_code"] for what in taken] == [202] * 5
    assert (output["bulk"]["success"], output["bulk"]["failure"]) == (249, 1)
    assert output["private attachment"]["status_code"] == output["local attachment"]["status_code"]
    assert output["local attachment"]["status_code"] == 404
    weir.require_balanced_books()
    rows = weir.ask(SUPRSEND_ROWS)
    assert [row[:3] for row in rows] == [
        ("$user_login", "user-ada", 1),
        ("invoice_ready", "user-ada", 1),
        ("new_comment", "user-ada", 1),
        ("opened", "bulk-ada", 249),
        ("product_purchased", "0fxxx8f74-xxxx-41c5-8752-xxxcb6911fb08", 1),
    ]
    login, invoice, *_, purchase = ({**json.loads(row[3]), **json.loads(row[4])} for row in rows)
    assert login["tenant_id"] == "acme"
    assert invoice["$attachments"][0]["url"] == "https://files.example.com/invoices/1.pdf"
    assert purchase["first_name"] == "Ada"
    assert purchase["$ss_sdk_version"].startswith("suprsend-py-sdk/0.20.0 ")
    repeats = (
        "SELECT idempotency_key, count(), countIf(same_payload) FROM weir.duplicates"
        " WHERE source = 'notifications' GROUP BY idempotency_key"
    )
    assert weir.ask(repeats) == [("ada-1687437670", 1, 1)]
    refused = (
        "SELECT code, count() FROM weir.rejected WHERE source = 'notifications'"
        " GROUP BY code ORDER BY code"
    )
    assert weir.ask(refused) == [
        ("attachment_not_found", 2),
        ("reserved_name", 1),
        ("too_large", 1),
    ]


SEGMENT_KEY = "segment-write-key"
SEGMENT_ROWS = (
    "SELECT event, user_id, anonymous_id, toJSONString(properties)"
    " FROM weir.events WHERE source = 'segment' ORDER BY event"
)


def test_calls_of_the_segment_client_become_rows_of_one_person(weir: RunningWeir) -> None:
    """Calls sent plain and again with gzip are all new, except those with a given message id."""
    for options in ((), ("gzip",)):
        output = json.loads(run_client("segment", weir.gateway, SEGMENT_KEY, *options))
        assert output == {"logged": [], "given_up": []}
    weir.require_balanced_books()
    user = "019mr8mf4r"
    rows = weir.ask(SEGMENT_ROWS)
    sent = [
        ("$identify", user, "", {"email": "pgibbons@example.com", "name": "Peter Gibbons"}),
        ("Once", user, "", {"n": 1}),
        ("Order Completed", user, "", {"revenue": 14.99, "products": [{"sku": "mat-1"}]}),
        ("alias", user, "visitor-1", {"previousId": "visitor-1"}),
        ("group", user, "",
         {"groupId": "8e9df332ac", "traits": {"name": "Initech", "employees": 420}}),
        ("imported", user, "", {}),
        ("page_view", "", "visitor-1",
         {"url": "/pricing", "name": "Pricing", "category": "Docs"}),
        ("screen_view", user, "", {"name": "Home", "dark": True}),
    ]  # fmt: skip
    found = [(*row[:3], json.loads(row[3])) for row in rows]
    assert found == [one for one in sent for _ in range(1 if one[0] == "Once" else 2)]
    repeats = (
        "SELECT idempotency_key, count(), countIf(same_payload) FROM weir.duplicates"
        " WHERE source = 'segment' GROUP BY idempotency_key"
    )
    assert weir.ask(repeats) == [("message-1", 3, 3)]
    people = "SELECT uniqExact(profile_id) FROM weir.events_current WHERE source = 'segment'"
    assert weir.ask(people) == [(1,)]  # the visitor is the user, since the alias says so
    when = (  # to the hour: between the client's sending and its being received some time passes
        "SELECT event, count() FROM weir.events WHERE source = 'segment'"
        " AND toStartOfHour(occurred_at) = '2026-03-01 12:00:00' GROUP BY event ORDER BY event"
    )
    assert weir.ask(when) == [("Once", 1), ("imported", 2)]


def test_cloudevents_in_structured_batched_and_binary_mode_become_rows(weir: RunningWeir) -> None:
    event = {
        "specversion": "1.0",
        "type": "com.example.order.paid",
        "source": "/shop",
        "id": "structured-1",
        "time": "2026-03-01T12:00:00Z",
        "userid": "ada",
        "data": {"amount": 12.5},
    }
    headers = {f"ce-{name}": text for name, text in event.items() if isinstance(text, str)}
    sent: list[tuple[str, object, dict[str, str]]] = [
        ("application/cloudevents+json", event, {}),
        ("application/cloudevents+json", event, {}),  # once more
        (
            "application/cloudevents-batch+json",
            [event | {"id": f"batched-{n}"} for n in (1, 2)],
            {},
        ),
        ("application/json", event["data"], headers | {"ce-id": "binary-1"}),
    ]
    for content_type, body, more in sent:
        every = {"Authorization": "Bearer cloudevents-write-key", "Content-Type": content_type}
        request = urllib.request.Request(
            f"{weir.gateway}/v1/cloudevents", json.dumps(body).encode(), every | more
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 202
    weir.require_balanced_books()
    rows = "SELECT idempotency_key, event, user_id, properties.amount::Float64 FROM weir.events"
    found = weir.ask(f"{rows} WHERE source = 'cloudevents' ORDER BY idempotency_key")
    ids = ("batched-1", "batched-2", "binary-1", "structured-1")
    assert found == [(f"/shop {id}", "com.example.order.paid", "ada", 12.5) for id in ids]
