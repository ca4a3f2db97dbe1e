"""The documented analyst queries return the truth of a generated shop."""

import json
import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.data import shop
from tests.data.shop_truth import Truth
from tests.support.events import NOON, accepted
from tests.support.running_warehouse import start_warehouse
from weir.adapters import avro
from weir.adapters.clickhouse.insert import ClickHouseRows, ClickHouseSchema
from weir.core import topics
from weir.core.batch import Batch, Output, State
from weir.core.identifiers import workspace_key
from weir.core.resource_paths import ROOT
from weir.identity.stage import IdentityStage
from weir.runtime.sink_ports import Insert
from weir.settings.shared import ClickHouseSettings
from weir.sink.migrations import Dialect, apply_migrations
from weir.sink.step import TABLES

PEOPLE = 300
UNTIL = datetime(2026, 1, 15, tzinfo=UTC)
BATCH = 200


def resolve(events: list[dict[str, Any]]) -> dict[str, list[bytes]]:
    """What identity makes of the events, by the name of the schema."""
    unique = avro.schemas()["Accepted"]
    waiting: deque[Output] = deque()
    for number, event in enumerate(events):
        at = event["occurred_at"]
        if isinstance(at, str):
            at = round(datetime.fromisoformat(at).timestamp() * 1000)
        fields = {
            name: event[name] for name in ("event", "user_id", "anonymous_id") if name in event
        }
        record = accepted(
            number,
            occurred_at=at,
            value=event.get("value"),
            properties=json.dumps(event["properties"]),
            **fields,
        )
        key = workspace_key("acme", record["identity_key"])
        waiting.append(Output(key, unique.encode(record)))
    return decide_all(waiting)


def decide_all(waiting: deque[Output]) -> dict[str, list[bytes]]:
    stage = IdentityStage()
    state: State = {}
    written: dict[str, list[bytes]] = {"Resolved": [], "Merge": [], "Profile": []}
    while waiting:
        taken = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
        batch = Batch(
            topics.UNIQUE,
            0,
            list(range(len(taken))),
            [NOON for _ in taken],
            [o.key for o in taken],
            [o.value for o in taken],
        )
        decided = stage.process(batch, lambda keys: {k: state[k] for k in keys if k in state})
        assert not decided.refusals
        state.update(decided.changes)
        waiting.extend(decided.outputs.get(topics.UNIQUE, []))
        written["Resolved"] += [o.value for o in decided.outputs.get(topics.RESOLVED, [])]
        written["Merge"] += [o.value for o in decided.beside.get(topics.PROFILES, [])]
        written["Profile"] += list(decided.changes.values())
    return written


class Shop:
    """The shop's rows in a warehouse, the queries of the docs, and the truth."""

    def __init__(self, url: str) -> None:
        settings = ClickHouseSettings(clickhouse_url=url)
        self._schema = ClickHouseSchema(settings)
        apply_migrations(self._schema, Dialect())
        stream, truth = shop.generate(PEOPLE, until=UNTIL)
        self.truth: Truth = truth
        once = {event["id"]: event for event in stream}  # dedup's work
        rows = ClickHouseRows(settings, 60, 1, compress=False)
        for name, values in resolve(list(once.values())).items():
            header = avro.schemas()[name].header
            for start in range(0, len(values), 1_000):
                part = values[start : start + 1_000]
                rows.insert(Insert(TABLES[name], header, part, f"{name}{start}"))
        rows.close()
        text = (ROOT / "docs" / "analysts.md").read_text()
        self._queries = dict(re.findall(r"\n([^\n]*):\n\n```sql\n(.*?)```", text, re.DOTALL))

    def ask(self, question: str) -> list[list[Any]]:
        """The answer to the question of the docs that begins like this."""
        (query,) = (sql for text, sql in self._queries.items() if text.startswith(question))
        return self.sql(query)

    def sql(self, query: str) -> list[list[Any]]:
        return [list(record.values()) for record in self._schema.records(query)]


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("warehouse")
    running = start_warehouse(folder)
    try:
        yield Shop(running.url)
    finally:
        running.stop()


def test_the_people_query_counts_each_person_once_after_merges(sold: Shop) -> None:
    assert sold.ask("People, each counted once") == [[sold.truth.people]]


def test_the_events_per_person_query_returns_the_true_counts(sold: Shop) -> None:
    answered = [count for _, count in sold.ask("Events of each person")]
    counts = sorted(sold.truth.events_per_person.values(), reverse=True)
    assert [int(count) for count in answered] == counts[: len(answered)]
    assert int(sold.sql("SELECT count() FROM weir.events")[0][0]) == sold.truth.events


def test_the_visits_query_and_sessions_return_the_true_counts(sold: Shop) -> None:
    assert sum(int(row[1]) for row in sold.ask("Visits a day")) == sold.truth.sessions
    of_each = sold.sql("SELECT count() AS n FROM weir.sessions GROUP BY profile_id ORDER BY n DESC")
    assert [int(n) for (n,) in of_each] == sorted(
        sold.truth.sessions_per_person.values(), reverse=True
    )
    same = "SELECT uniqExact(session_id), count() FROM weir.events_current WHERE session_id != ''"
    assert sold.sql(same) == [[sold.truth.sessions, sold.truth.events]]


def test_profiles_return_the_true_people_event_and_session_counts(sold: Shop) -> None:
    sql = "SELECT count(), sum(events), sum(sessions) FROM weir.profiles WHERE events > 0"
    assert sold.sql(sql) == [[sold.truth.people, sold.truth.events, sold.truth.sessions]]
    known = "SELECT count() FROM weir.profiles WHERE notEmpty(user_ids)"
    assert sold.sql(known) == [[sold.truth.known_people]]


def test_the_revenue_query_returns_the_true_revenue_and_purchases(sold: Shop) -> None:
    days = sold.ask("Revenue a day")
    assert sum(float(revenue) for _, revenue, _ in days) == sold.truth.revenue
    assert sum(int(purchases) for _, _, purchases in days) == sold.truth.purchases


def test_the_funnel_query_returns_the_true_ordered_funnel(sold: Shop) -> None:
    assert sold.ask("How many people got how far") == [list(sold.truth.funnel)]


def test_the_retention_query_returns_the_true_next_day_retention(sold: Shop) -> None:
    rows = sold.ask("Of the people seen for the first time")
    found = [(date.fromisoformat(day), int(people), int(back)) for day, people, back in rows]
    assert found == sold.truth.retention
