"""The truth of the shop's generator can be derived from its event stream alone."""

import json
from collections import defaultdict
from datetime import UTC, datetime

import pytest

from tests.data.shop import REPEATED, Event, generate, write
from tests.data.shop_truth import DAY, GAP, Happening, Truth, count_sessions, funnel_depth

UNTIL = datetime(2026, 3, 1, tzinfo=UTC)
PEOPLE = 300

Shop = tuple[list[Event], Truth]


@pytest.fixture(scope="module")
def shop() -> Shop:
    events, truth = generate(PEOPLE, seed=7, until=UNTIL)
    return list(events), truth


def test_the_same_seed_gives_the_same_stream(shop: Shop) -> None:
    events, truth = generate(PEOPLE, seed=7, until=UNTIL)
    assert (list(events), truth) == shop


def test_another_seed_gives_other_events_under_other_ids(shop: Shop) -> None:
    others, _ = generate(20, seed=8, until=UNTIL)
    assert not {event["id"] for event in others} & {event["id"] for event in shop[0]}


def test_duplicates_in_the_stream_equal_their_first_event(shop: Shop) -> None:
    events, truth = shop
    by_id: dict[str, Event] = {}
    for event in events:
        assert by_id.setdefault(event["id"], event) == event
    assert len(by_id) == truth.events
    assert len(events) - len(by_id) == truth.repeats
    assert truth.repeats / truth.events == pytest.approx(REPEATED, abs=0.01)


def test_events_arrive_out_of_order_by_less_than_ten_minutes(shop: Shop) -> None:
    firsts: dict[str, Event] = {}
    for event in shop[0]:
        firsts.setdefault(event["id"], event)
    latest, disorder = 0, 0
    for event in firsts.values():
        at = milliseconds(event)
        disorder += at < latest
        assert at > latest - 10 * 60_000
        latest = max(latest, at)
    assert disorder > len(firsts) / 20


def test_all_events_occur_within_14_days(shop: Shop) -> None:
    end = UNTIL.timestamp() * 1_000
    assert all(end - 14 * DAY <= milliseconds(event) < end for event in shop[0])


def test_people_sessions_and_purchases_derived_from_ids_match_the_truth(shop: Shop) -> None:
    events, truth = shop
    people = followed(events)
    assert len(people) == truth.people == PEOPLE
    assert {name: len(lived) for name, lived in people.items()} == truth.events_per_person
    visits = {name: count_sessions(happenings(lived)) for name, lived in people.items()}
    assert visits == truth.sessions_per_person
    reached = [funnel_depth(happenings(lived)) for lived in people.values()]
    assert tuple(sum(depth >= step for depth in reached) for step in (1, 2, 3)) == truth.funnel
    bought = [e for lived in people.values() for e in lived if e["event"] == "purchase"]
    assert sum(event["value"] for event in bought) == truth.revenue
    assert len(bought) == truth.purchases


def test_retention_counts_everybody_once(shop: Shop) -> None:
    truth = shop[1]
    assert sum(new for _, new, _ in truth.retention) == truth.people
    assert all(back <= new for _, new, back in truth.retention)
    assert sum(back for _, _, back in truth.retention) > 0


def test_logins_have_user_and_anonymous_id_and_follow_anonymous_events(shop: Shop) -> None:
    events = shop[0]
    logins = [event for event in events if event["event"] in ("login", "$identify")]
    assert all(event["user_id"] and event["anonymous_id"] for event in logins)
    backwards = sorted(events, key=milliseconds, reverse=True)
    first = {event["anonymous_id"]: event for event in backwards if "anonymous_id" in event}
    assert all("user_id" not in event for event in first.values())


def test_each_device_has_one_user_and_some_users_have_two_devices(shop: Shop) -> None:
    owners = defaultdict(set)
    for event in shop[0]:
        if "user_id" in event and "anonymous_id" in event:
            owners[event["anonymous_id"]].add(event["user_id"])
    assert all(len(users) == 1 for users in owners.values())
    assert any(len(devices) == 2 for devices in turned(owners).values())


@pytest.mark.parametrize(("gap", "visits"), [(GAP, 1), (GAP + 1, 2)])
def test_a_session_ends_after_a_gap_of_more_than_30_minutes(gap: int, visits: int) -> None:
    assert count_sessions([happening(0, "page_view"), happening(gap, "page_view")]) == visits


@pytest.mark.parametrize(
    ("steps", "depth"),
    [
        ([], 0),
        ([(0, "add_to_cart"), (1, "purchase")], 0),
        ([(0, "product_view"), (1, "purchase")], 1),
        ([(0, "product_view"), (1, "add_to_cart"), (DAY, "purchase")], 3),
        ([(0, "product_view"), (1, "add_to_cart"), (DAY + 1, "purchase")], 2),
        ([(0, "product_view"), (5, "product_view"), (6, "add_to_cart"), (DAY + 5, "purchase")], 3),
    ],
)
def test_funnel_steps_count_only_in_order_and_within_a_day(
    steps: list[tuple[int, str]], depth: int
) -> None:
    assert funnel_depth([happening(at, name) for at, name in steps]) == depth


def test_the_written_ndjson_lines_equal_the_events(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("shop") / "shop.ndjson"
    write(path, shop[0])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == shop[0]


def happening(at: int, name: str) -> Happening:
    return Happening(at, name, "device", "", True)


def happenings(events: list[Event]) -> list[Happening]:
    return [happening(milliseconds(event), event["event"]) for event in events]


def milliseconds(event: Event) -> int:
    at = event["occurred_at"]
    return at if isinstance(at, int) else round(datetime.fromisoformat(at).timestamp() * 1_000)


def followed(events: list[Event]) -> dict[str, list[Event]]:
    """Events by person, found by nothing but the names that they carry."""
    users = {
        event["anonymous_id"]: event["user_id"]
        for event in events
        if "anonymous_id" in event and "user_id" in event
    }
    people: dict[str, list[Event]] = defaultdict(list)
    for event in {event["id"]: event for event in events}.values():
        device = event.get("anonymous_id", "")
        name = str(event.get("user_id") or users.get(device, device))
        people[name].append(event)
    return people


def turned(owners: dict[str, set[str]]) -> dict[str, set[str]]:
    devices = defaultdict(set)
    for device, users in owners.items():
        for user in users:
            devices[user].add(device)
    return devices
