"""A shop's fortnight through the whole of Weir: every query of docs/analysts.md finds the truth."""

import re
from pathlib import Path

import pytest

from services.core.paths import ROOT
from tests.shop import generate, write
from tests.shop_truth import Truth
from tests.system.weir_fixture import KEYS, Row, RunningWeir

ANALYSTS = ROOT / "docs" / "analysts.md"
BLOCK = re.compile(r"```sql\n-- (\w+): .*?\n(.*?)```", re.DOTALL)
QUERIES = dict(BLOCK.findall(ANALYSTS.read_text(encoding="utf-8")))
PEOPLE = 3_000


@pytest.fixture(scope="module")
def truth(weir: RunningWeir, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """What is true of the shop whose events are all in."""
    events, told = generate(PEOPLE)
    path: Path = tmp_path_factory.mktemp("shop") / "shop.ndjson"
    write(path, events)
    sent = weir.run("send", str(path), "--url", weir.gateway, "--key", KEYS["shop"])
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert f"{told.events + told.repeats:,} accepted, 0 refused, 0 not" in sent.stdout
    weir.require_balanced_books()
    return told


@pytest.fixture
def answer(weir: RunningWeir, truth: Truth, request: pytest.FixtureRequest) -> list[Row]:
    """Rows of the query in docs/analysts.md that the test names: `@answers("people")`."""
    return weir.ask(QUERIES[request.param])


def answers(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("answer", [name], indirect=True)


@answers("people")
def test_people_after_merges(answer: list[Row], truth: Truth) -> None:
    assert answer == [(truth.people,)]


@answers("activity")
def test_events_and_visits_of_each_person(answer: list[Row], truth: Truth) -> None:
    assert {person: events for person, events, _ in answer} == truth.events_per_person
    assert {person: visits for person, _, visits in answer} == truth.sessions_per_person
    assert len(answer) == truth.people


@answers("visits")
def test_visits(answer: list[Row], truth: Truth) -> None:
    assert answer[0][0] == truth.sessions


@answers("revenue")
def test_revenue(answer: list[Row], truth: Truth) -> None:
    assert answer == [(truth.revenue, truth.purchases)]


@answers("products")
def test_paths_of_properties_are_columns(answer: list[Row], truth: Truth) -> None:
    assert sum(times for _, times, _ in answer) == truth.events_by_name["add_to_cart"]
    assert all(worth > 0 and product.startswith("sku-") for product, _, worth in answer)


@answers("funnel")
def test_funnel(answer: list[Row], truth: Truth) -> None:
    assert answer == [truth.funnel]


@answers("retention")
def test_next_day_retention(answer: list[Row], truth: Truth) -> None:
    assert answer == truth.retention


def test_each_event_is_stored_once_and_each_repeat_is_known(
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


def test_each_person_is_known_by_all_their_names(weir: RunningWeir, truth: Truth) -> None:
    known = "SELECT countIf(length(user_ids) = 1), countIf(length(user_ids) > 1), count()"
    assert weir.ask(f"{known} FROM weir.profiles WHERE workspace = 'shop'") == [
        (truth.known_people, 0, truth.people)
    ]
