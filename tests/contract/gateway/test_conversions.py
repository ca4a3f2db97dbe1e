"""Goal and experiment figures for 100,000 generated events equal independently computed ones."""

import json
import math
import re
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner

from tests.data import conversions_truth as true
from tests.data.conversions import (
    BACKEND,
    BETWEEN,
    EVENTS,
    EXPERIMENT,
    HOUR,
    SITE,
    START,
    Stream,
    generate,
)
from tests.support.records import merge, resolved
from tests.support.running import RunningKafka, ending_well, free_port, wait_until
from tests.support.running_gateway import (
    RunningGateway,
    declare,
    make_topics,
    start_gateway,
)
from tests.support.running_warehouse import RunningWarehouse, start_warehouse
from weir.adapters import avro
from weir.adapters.clickhouse.insert import ClickHouseRows, ClickHouseSchema
from weir.cli.experiment import command
from weir.core.registry import Source, hash_key
from weir.core.resource_paths import ROOT
from weir.runtime.sink_ports import Insert
from weir.settings.shared import ClickHouseSettings
from weir.sink.migrations import Dialect, apply_migrations
from weir.sink.step import TABLES

DAY = 24 * HOUR
SINCE, UNTIL = START + 7 * HOUR + 1, START + 2 * DAY + 18 * HOUR
SPAN = "from=2026-01-01T07:00:00.001Z&to=2026-01-03T18:00:00Z"
GOALS = [
    ("Purchase", "event", "purchase"),
    ("Signup", "event", "signup"),
    ("Thanked", "path", "/thanks"),
    ("Home", "path", "/"),
    ("Umlauts", "path", "/docs/ünï"),
    ("Never", "event", 'it\'s \\ a "q" {a:String} [x], %s'),
]
ADMIN, READ, WRITE = "admin-key-of-shop", "read-key-of-shop", "write-key-of-shop"


@dataclass
class Place:
    """A gateway with a warehouse in which the events lie."""

    gateway: RunningGateway
    warehouse: RunningWarehouse
    stream: Stream

    def ask(
        self, method: str, rest: str = "", key: str = READ, body: Any = None, site: str = SITE
    ) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return self.gateway.ask(method, f"/api/sites/{site}/goals{rest}", sent, headers)

    def weir_experiment(self, *arguments: str) -> Any:
        environ = {"WEIR_CLICKHOUSE_PORT": str(self.warehouse.port)}
        return CliRunner().invoke(
            command, [EXPERIMENT, "--goal", "purchase", *arguments], env=environ
        )

    def docs(self, question: str) -> list[list[Any]]:
        """The answer to the question of docs/analysts.md that begins like this."""
        text = (ROOT / "docs" / "analysts.md").read_text()
        ((_, query),) = re.findall(rf"\n({question}[^\n]*):\n\n```sql\n(.*?)```", text, re.DOTALL)
        schema = ClickHouseSchema(ClickHouseSettings(clickhouse_url=self.warehouse.url))
        return [list(record.values()) for record in schema.records(query)]


def fill(url: str, stream: Stream) -> None:
    """The stream's rows through the sink's insert path."""
    settings = ClickHouseSettings(clickhouse_url=url)
    apply_migrations(ClickHouseSchema(settings), Dialect())
    rows = ClickHouseRows(settings, 60, 1, compress=False)
    encoded = {
        "Resolved": [resolved(n, **h.record()) for n, h in enumerate(stream.happenings)],
        "Merge": [merge(profile, into) for profile, into in stream.merges()],
    }
    for name, values in encoded.items():
        header = avro.schemas()[name].header
        for start in range(0, len(values), 20_000):
            part = values[start : start + 20_000]
            rows.insert(Insert(TABLES[name], header, part, f"{name}{start}"))
    rows.close()


@pytest.fixture(scope="module")
def place(kafka: RunningKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("goals")
    warehouse = start_warehouse(folder / "warehouse")
    try:
        stream = generate()
        fill(warehouse.url, stream)
        make_topics(kafka.bootstrap)
        site = Source(
            id=SITE,
            workspace="acme",
            read_key_hashes=(hash_key(READ),),
            admin_key_hashes=(hash_key(ADMIN),),
        )
        declare(kafka.bootstrap, WRITE, site)
        declare(kafka.bootstrap, "write-key-of-other", Source(id="other"))
        gateway = start_gateway(kafka.bootstrap, folder, WEIR_CLICKHOUSE_PORT=str(warehouse.port))
        with ending_well(gateway.process):
            wait_until(lambda: gateway.knows(WRITE), 10, "the source")
            yield Place(gateway, warehouse, stream)
    finally:
        warehouse.stop()


@pytest.fixture(scope="module")
def goals(place: Place) -> list[dict[str, Any]]:
    """Every goal of GOALS, made over HTTP."""
    made = []
    for name, kind, value in GOALS:
        answer = place.ask("POST", key=ADMIN, body={"name": name, "type": kind, "value": value})
        assert answer.status == 201, answer.body
        made.append(answer.json())
    return made


def test_the_warehouse_contains_all_100000_generated_events(place: Place) -> None:
    schema = ClickHouseSchema(ClickHouseSettings(clickhouse_url=place.warehouse.url))
    (row,) = schema.records("SELECT count() AS n FROM weir.events")
    assert int(row["n"]) == len(place.stream.happenings) == EVENTS


def test_goal_stats_equal_the_expected_figures(place: Place, goals: list[dict[str, Any]]) -> None:
    answer = place.ask("GET", f"/stats?{SPAN}")
    assert answer.status == 200, answer.body
    there = true.of_site(place.stream, SINCE, UNTIL)
    visitors = true.reached(there).converted
    found = {stats["goal_id"]: stats for stats in answer.json()["goals"]}
    for goal in goals:
        wanted = true.reached(filter(true.is_goal(goal["type"], goal["value"]), there))
        assert found[goal["id"]] == {
            "goal_id": goal["id"],
            "name": goal["name"],
            "type": goal["type"],
            "value": goal["value"],
            "conversions": wanted.conversions,
            "converted_visitors": wanted.converted,
            "visitors": visitors,
            "conversion_rate": wanted.converted / visitors,
        }
    assert found[goals[-1]["id"]]["conversions"] == 0
    assert all(found[goal["id"]]["conversions"] > 100 for goal in goals[:-1])


@pytest.mark.parametrize(("interval", "step"), [("hour", HOUR), ("day", DAY)])
def test_goal_timeseries_equal_the_expected_figures(
    place: Place, goals: list[dict[str, Any]], interval: str, step: int
) -> None:
    answer = place.ask("GET", f"/timeseries?{SPAN}&interval={interval}")
    assert answer.status == 200, answer.body
    there = true.of_site(place.stream, SINCE, UNTIL)
    found = {series["goal_id"]: series for series in answer.json()["series"]}
    for goal in goals:
        hits = [h for h in there if true.is_goal(goal["type"], goal["value"])(h)]
        wanted = []
        for start in range(SINCE // step * step, UNTIL, step):
            within = true.reached(h for h in hits if start <= h.at < start + step)
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start / 1000))
            wanted.append((at, within.conversions, within.converted))
        points = [
            (p["time"], p["conversions"], p["converted_visitors"])
            for p in found[goal["id"]]["points"]
        ]
        assert points == wanted


def test_the_queries_of_the_analysts_guide_return_the_expected_figures(place: Place) -> None:
    there = true.of_site(place.stream, 0, 1 << 62)
    thanks = true.reached(filter(true.is_goal("path", "/thanks"), there))
    visitors = true.reached(there).converted
    ((*counts, rate),) = place.docs("A goal of a site")
    assert [int(n) for n in counts] == [thanks.conversions, thanks.converted, visitors]
    assert rate == thanks.converted / visitors
    days = place.docs("The same goal by day")
    assert sum(int(conversions) for _, conversions, _ in days) == thanks.conversions

    truth = true.experiment(place.stream)
    compared = place.docs("What each variation of an experiment did to purchases")
    assert [(row[0], int(row[2])) for row in compared] == [(n, v.exposed) for n, v in truth.items()]
    week = {row[0]: row[3] for row in place.docs("An experiment of a week")}
    assert near(week["A"], true.lift(truth["A"].converted, truth["C"].converted, True).value)
    shown = place.docs("How many people were first shown")
    first = [person.variations[0] for person in place.stream.people if person.variations]
    for name in truth:
        assert sum(int(n) for _, variation, n in shown if variation == name) == first.count(name)


def near(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=1e-7, abs_tol=1e-9)


def test_experiment_counts_rates_and_values_equal_the_expected_figures(place: Place) -> None:
    result = place.weir_experiment("--json")
    assert result.exit_code == 0, result.output
    truth = true.experiment(place.stream)
    variations = {row["variation"]: row for row in json.loads(result.stdout)["variations"]}
    assert set(variations) == set(truth) == {"A", "B", "C"}
    for name, wanted in truth.items():
        row = variations[name]
        counts = (wanted.exposed, wanted.mixed, sum(wanted.converted), sum(wanted.purchases))
        found = tuple(row[n] for n in ("exposed", "mixed", "converted", "conversions"))
        assert found == counts
        assert near(row["conversion_rate"], sum(wanted.converted) / wanted.exposed)
        assert near(row["value_sum"], math.fsum(wanted.values))
        assert near(row["mean_value"], math.fsum(wanted.values) / wanted.exposed)
    assert min(variation.mixed for variation in truth.values()) > 10
    assert (variations["A"]["is_control"], variations["A"]["rate_lift"]) == (True, None)


@pytest.mark.parametrize("control", ["A", "C"])
def test_lifts_confidence_intervals_and_p_values_equal_the_expected_figures(
    place: Place, control: str
) -> None:
    result = place.weir_experiment("--json", "--control", control)
    truth = true.experiment(place.stream)
    base = truth[control]
    for row in json.loads(result.stdout)["variations"]:
        if row["variation"] == control:
            continue
        wanted = truth[row["variation"]]
        rate = true.difference(wanted.converted, base.converted)
        mean, p_value = true.welch(wanted.values, base.values)
        estimates = {
            "rate_difference": rate,
            "rate_lift": true.lift(wanted.converted, base.converted, binary=True),
            "mean_difference": mean,
            "mean_lift": true.lift(wanted.values, base.values, binary=False),
        }
        for name, estimate in estimates.items():
            assert near(row[name], estimate.value), name
            assert near(row[f"{name}_low"], estimate.low), name
            assert near(row[f"{name}_high"], estimate.high), name
        assert near(row["rate_p_value"], true.two_sided(rate))
        assert near(row["mean_p_value"], p_value)


def test_an_experiment_counts_only_events_of_the_given_time_and_source(place: Place) -> None:
    """Later events do not count: a second variation seen after the end is no mixed exposure."""
    ends = START + DAY
    early = [p for p in place.stream.people if p.variations and p.exposed_at < ends]
    apart = [p for p in early if len(p.variations) == 2 and p.exposed_at + BETWEEN >= ends]
    alone = {p.number: p for p in [*apart, *(p for p in early if len(p.variations) == 1)]}
    converted = {
        h.person
        for h in place.stream.happenings
        if h.event == "purchase" and h.person in alone
        if alone[h.person].exposed_at <= h.at < ends
    }
    assert apart
    result = place.weir_experiment("--json", "--to", "2026-01-02", "--source", SITE)
    for row in json.loads(result.stdout)["variations"]:
        people = {n for n, person in alone.items() if person.variations[0] == row["variation"]}
        assert (row["exposed"], row["converted"]) == (len(people), len(people & converted))
    nowhere = place.weir_experiment("--source", BACKEND)
    assert (nowhere.exit_code, "Nobody was exposed" in nowhere.output) == (1, True)


def test_the_experiment_command_prints_a_table_and_rejects_an_unknown_control(place: Place) -> None:
    result = place.weir_experiment()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    exposed = f"{true.experiment(place.stream)['B'].exposed:,}"
    assert any(line.split()[:2] == ["B", exposed] for line in lines), result.output
    wrong = place.weir_experiment("--control", "Z")
    assert (wrong.exit_code, "A, B, C" in wrong.output) == (2, True)


# --- the rest of the API


def test_a_read_key_lists_goals_but_cannot_create_or_delete_them(
    place: Place, goals: list[dict[str, Any]]
) -> None:
    assert [goal for goal in place.ask("GET").json() if goal in goals] == goals
    sent = {"name": "n", "type": "event", "value": "v"}
    assert place.ask("POST", body=sent).status == 403
    assert place.ask("DELETE", f"/{goals[0]['id']}").status == 403
    assert place.ask("GET", key=WRITE).status == 403
    assert place.ask("GET", site="other").status == 403
    unknown = place.ask("GET", key="unknown")
    assert (unknown.status, unknown.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert unknown.headers["Content-Type"] == "application/problem+json"


def test_the_documented_curl_call_with_a_cookie_creates_a_goal(place: Place) -> None:
    """`curl -b hk_token=...` creates a goal that another gateway lists until it is deleted."""
    answer = place.gateway.ask(
        "POST",
        f"/api/sites/{SITE}/goals",
        b'{"name":"Pro Signup","type":"event","value":"signup"}',
        {"Content-Type": "application/json", "Cookie": f"hk_token={ADMIN}"},
    )
    assert answer.status == 201
    goal = answer.json()
    assert (goal["site_id"], goal["value"]) == (SITE, "signup")
    assert place.ask("POST", key=ADMIN, body=goal).status == 200
    other = start_gateway(
        place.gateway.kafka.bootstrap(),
        place.warehouse.log.parent,
        WEIR_CLICKHOUSE_PORT=str(free_port()),
    )
    try:
        read = {"X-Api-Key": READ}
        there = other.ask("GET", f"/api/sites/{SITE}/goals", headers=read).json()
        assert goal in there
        deleted = place.ask("DELETE", f"?goal_id={goal['id']}", key=ADMIN)
        assert (deleted.status, deleted.body) == (204, b"")
        query = urllib.parse.urlencode({"key": READ})
        assert goal not in other.ask("GET", f"/api/sites/{SITE}/goals?{query}").json()
        # this one knows no warehouse at its address: goals are there, their figures are not
        assert other.ask("GET", f"/api/sites/{SITE}/goals/stats", headers=read).status == 503
    finally:
        other.process.stop()
    assert place.ask("DELETE", f"/{goal['id']}", key=ADMIN).status == 404


def test_goals_are_listed_but_stats_are_503_while_clickhouse_is_down(place: Place) -> None:
    assert place.ask("GET", "/stats").status == 200
    place.warehouse.stop()
    answer = place.ask("GET", "/stats")
    assert (answer.status, answer.json()["code"]) == (503, "not_counted")
    assert int(answer.headers["Retry-After"]) > 0
    assert place.ask("GET", "/timeseries").status == 503
    assert place.ask("GET").status == 200
    assert place.gateway.post(WRITE, b'{"event": "signup"}').status == 202
