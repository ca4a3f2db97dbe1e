"""The queries of docs/analysts.md return the truth of a shop's fortnight sent through all of Weir."""

import re
from pathlib import Path

import pytest

from tests.data.shop import generate, write
from tests.data.shop_truth import Truth
from tests.support.running_weir import KEYS, RunningWeir
from weir.core.resource_paths import ROOT

ANALYSTS = (ROOT / "docs" / "analysts.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^([^\n`]+):\n\n```sql\n(.*?)```", re.DOTALL | re.MULTILINE)
QUESTIONS: dict[str, str] = dict(BLOCK.findall(ANALYSTS))
TABLE = re.compile(r"\bweir\.(events_current|events|sessions)\b")
PEOPLE = 1_500


@pytest.fixture(scope="module")
def truth(weir: RunningWeir, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """What is true of the shop whose events are all in."""
    events, expected = generate(PEOPLE)
    path: Path = tmp_path_factory.mktemp("shop") / "shop.ndjson"
    write(path, events)
    sent = weir.run("send", str(path), "--url", weir.gateway, "--key", KEYS["shop"])
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert f"{expected.events + expected.repeats:,} accepted, 0 rejected, 0 not" in sent.stdout
    weir.require_balanced_books()
    return expected


def query(question: str) -> str:
    """The one query of docs/analysts.md whose question begins so, asked of the shop alone."""
    (sql,) = (sql for asked, sql in QUESTIONS.items() if asked.startswith(question))
    return TABLE.sub(r"(SELECT * FROM weir.\1 WHERE source = 'shop')", sql)


def test_the_people_query_counts_each_person_once_after_merges(
    weir: RunningWeir, truth: Truth
) -> None:
    assert weir.ask(query("People, each counted once")) == [(truth.people,)]


def test_the_events_per_person_query_returns_the_true_counts(
    weir: RunningWeir, truth: Truth
) -> None:
    most = sorted(truth.events_per_person.values(), reverse=True)[:20]
    assert [events for _, events in weir.ask(query("Events of each person"))] == most


def test_the_visits_query_returns_the_true_number_of_sessions(
    weir: RunningWeir, truth: Truth
) -> None:
    days = weir.ask(query("Visits a day"))
    assert sum(visits for _, visits, *_ in days) == truth.sessions


def test_the_revenue_query_returns_the_true_revenue_and_purchases(
    weir: RunningWeir, truth: Truth
) -> None:
    days = weir.ask(query("Revenue a day"))
    assert sum(revenue for _, revenue, _ in days) == truth.revenue
    assert sum(purchases for *_, purchases in days) == truth.purchases


def test_the_funnel_query_returns_the_true_funnel(weir: RunningWeir, truth: Truth) -> None:
    assert weir.ask(query("How many people got how far")) == [truth.funnel]


def test_the_retention_query_returns_the_true_next_day_retention(
    weir: RunningWeir, truth: Truth
) -> None:
    assert weir.ask(query("Of the people seen for the first time")) == truth.retention


def test_each_person_has_the_true_number_of_events_and_sessions(
    weir: RunningWeir, truth: Truth
) -> None:
    found = weir.ask(
        "SELECT if(max(user_id) != '', max(user_id), max(anonymous_id)) AS person, count(),"
        " uniqExact(session_id) FROM weir.events_current WHERE source = 'shop' GROUP BY profile_id"
    )
    assert len(found) == truth.people
    assert {person: events for person, events, _ in found} == truth.events_per_person
    assert {person: visits for person, _, visits in found} == truth.sessions_per_person


def test_nested_properties_can_be_queried_as_columns(weir: RunningWeir, truth: Truth) -> None:
    (found,) = weir.ask(
        "SELECT count(), uniqExact(properties.list.rank::Int64), min(properties.price::Float64) > 0"
        " FROM weir.events WHERE source = 'shop' AND event = 'add_to_cart'"
    )
    assert found == (truth.events_by_name["add_to_cart"], 7, True)


def test_each_event_is_stored_once_and_each_repeat_is_a_duplicate(
    weir: RunningWeir, truth: Truth
) -> None:
    stored = weir.ask(
        "SELECT event, count() FROM weir.events WHERE source = 'shop' GROUP BY event ORDER BY event"
    )
    assert dict(stored) == truth.events_by_name
    assert weir.ask(
        "SELECT accepted, stored, duplicate, dead, unsaved FROM (SELECT sum(accepted) AS accepted,"
        " sum(stored) AS stored, sum(duplicate) AS duplicate, sum(dead) AS dead,"
        " sum(unsaved) AS unsaved FROM (SELECT * FROM weir.books WHERE source = 'shop'))"
    ) == [(truth.events + truth.repeats, truth.events, truth.repeats, 0, 0)]
    same = "SELECT countIf(same_payload), count() FROM weir.duplicates WHERE source = 'shop'"
    assert weir.ask(same) == [(truth.repeats, truth.repeats)]


def test_each_person_has_one_profile_and_at_most_one_user_id(
    weir: RunningWeir, truth: Truth
) -> None:
    known = "SELECT countIf(length(user_ids) = 1), countIf(length(user_ids) > 1), count()"
    assert weir.ask(f"{known} FROM weir.profiles WHERE workspace = 'shop'") == [
        (truth.known_people, 0, truth.people)
    ]
