"""`python -m tests.bench.books --rows 20000000`: what the books cost on many rows, without Kafka.

The rows are made by the engine itself: events of some sources over some days, accepted at an even
pace, and the accounts that the workers would have written of them. Then the audit's own questions are
asked, of the last three hours and of everything, several times each.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.bench.measure import cpu_seconds, machine
from tests.support.running import bare_environ, free_port, start_process, wait_until
from weir.adapters.clickhouse.query import ClickHouse, ClickHouseUnreachableError
from weir.audit.clickhouse_counts import AuditRange, read_counts, read_entries, read_pages
from weir.audit.offsets import read_behind, read_within
from weir.cli.migrate import migrate
from weir.core import topics
from weir.settings.shared import ClickHouseSettings, MigrationSettings

CHUNK = 500_000  # rows of an insert
HOURS = 3
SOURCES = 20
DAYS = 10
BATCH = 200  # events of one transaction, so one of the accounts' rows
PARTITIONS = 4
TOPIC_ID = "bench"
# What is so of the event of a number, for both statements.
GIVEN = """
    WITH reinterpretAsUUID(sipHash128(number)) AS event_id,
        concat('source-', toString(intDiv(number, {batch}) % {sources})) AS source,
        fromUnixTimestamp64Milli(toInt64({start} + number * {step}), 'UTC') AS received_at
"""
EVENTS = """
    INSERT INTO weir.events (event_id, workspace, source, event, profile_id, session_id,
        idempotency_key, properties, occurred_at, received_at, door)
    {given}
    SELECT event_id, 'acme', source, concat('event-', toString(number % 50)),
        toString(cityHash64(number % 1000003)), toString(cityHash64(number % 5000011)),
        toString(number), '{{"price": 3, "name": "a thing"}}', received_at, received_at, 'events'
    FROM numbers({first}, {rows})
"""
# A batch is of one source, as if the sources took turns.
ACCOUNTS = """
    INSERT INTO weir.usage_deltas (source, minute, stage, outcome, events, bytes, origin_topic,
        origin_partition, position, topic_id, first, fingerprint)
    {given}
    SELECT source, toStartOfMinute(toDateTime(received_at)) AS minute, account.1 AS stage,
        account.2 AS outcome, count(), count() * 1000, account.3,
        intDiv(number, {batch}) % {partitions} AS partition, max(number) + 1, '{topic_id}', min(number),
        sum(toInt64(toUInt128(event_id)))
    FROM numbers({first}, {rows})
    ARRAY JOIN [('dedup', 'accepted', '{accepted}'), ('dedup', 'unique', '{accepted}'),
        ('identity', 'resolved', '{unique}')] AS account
    GROUP BY source, minute, account, partition, intDiv(number, {batch})
"""


@click.command()
@click.option("--rows", default=20_000_000, show_default=True, type=click.IntRange(CHUNK))
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(1))
@click.option("--out", type=click.Path(path_type=Path), help="JSON, too.")
def main(rows: int, repeats: int, out: Path | None) -> None:
    """Time the books on generated rows; medians. About three minutes for 20 million.

    \b
    Example:
      python -m tests.bench.books --rows 20000000
    """
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="weir-books-") as name:
        folder = Path(name)
        settings = ClickHouseSettings(clickhouse_port=free_port())
        environ = bare_environ(
            WEIR_DATA_DIR=name, WEIR_CLICKHOUSE_PORT=str(settings.clickhouse_port)
        )
        command = [sys.executable, "-m", "weir.embedded.clickhouse"]
        engine = start_process(command, folder / "engine.log", environ)
        try:
            clickhouse = _answering(settings)
            results = _measure(clickhouse, settings, engine.process.pid, rows, repeats, console)
        finally:
            engine.stop()
    results = {"machine": machine(), **results}
    _print(console, results)
    if out is not None:
        out.write_text(json.dumps(results, indent=2) + "\n")


def _answering(settings: ClickHouseSettings) -> ClickHouse:
    found: list[ClickHouse] = []

    def answers() -> bool:
        try:
            found.append(ClickHouse(settings))
        except ClickHouseUnreachableError:
            return False
        return True

    wait_until(answers, 60, "the engine")
    return found[0]


def _measure(
    clickhouse: ClickHouse,
    settings: ClickHouseSettings,
    pid: int,
    rows: int,
    repeats: int,
    console: Console,
) -> dict[str, Any]:
    migrate(settings, MigrationSettings())
    clickhouse.ask("DROP VIEW weir.events_to_session_segments")  # half the time, and not asked here
    end = datetime.now(UTC).replace(microsecond=0)
    began, cpu = time.monotonic(), cpu_seconds(pid)
    _fill(clickhouse, rows, end, console)
    results: dict[str, Any] = {
        "rows": rows,
        "fill_seconds": time.monotonic() - began,
        "fill_cpu_seconds": cpu_seconds(pid) - cpu,
        "accounts": _one(clickhouse, "SELECT count() FROM weir.usage_deltas"),
        "parts": _one(
            clickhouse,
            "SELECT count() FROM system.parts WHERE database = 'weir' AND table = 'events' AND active",
        ),
        "questions": {},
    }
    recent = AuditRange(end - timedelta(hours=HOURS))
    for name, part in (("the last three hours", recent), ("everything", AuditRange())):
        asked = partial(_audit, clickhouse, part)
        results["questions"][f"audit, {name}"] = _timed(asked, pid, repeats)
    results["questions"]["rows counted one by one, everything"] = _timed(
        lambda: clickhouse.ask(
            "SELECT source, toStartOfMinute(toDateTime(received_at)) AS minute, count(),"
            " sum(toInt64(toUInt128(event_id))) FROM weir.events GROUP BY source, minute"
            " FORMAT Null SETTINGS optimize_use_projections = 0"
        ),
        pid,
        min(repeats, 3),
    )
    read = _read_rows(clickhouse)
    return {**results, "read": read}


def _fill(clickhouse: ClickHouse, rows: int, end: datetime, console: Console) -> None:
    start = end - timedelta(days=DAYS)
    given = GIVEN.format(
        batch=BATCH,
        sources=SOURCES,
        start=int(start.timestamp() * 1_000),
        step=timedelta(days=DAYS).total_seconds() * 1_000 / rows,
    )
    names = {
        "accepted": topics.ACCEPTED,
        "unique": topics.UNIQUE,
        "batch": BATCH,
        "topic_id": TOPIC_ID,
    }
    for first in range(0, rows, CHUNK):
        many = min(CHUNK, rows - first)
        part = {"given": given, "first": first, "rows": many}
        clickhouse.ask(EVENTS.format(**part))
        clickhouse.ask(ACCOUNTS.format(**part, **names, partitions=PARTITIONS))
        if (first + many) % 2_000_000 == 0:
            console.print(f"[dim]{first + many:,} rows[/]")


def _audit(clickhouse: ClickHouse, part: AuditRange) -> None:
    """What `weir audit` asks ClickHouse; it must balance, else the figure is of something else."""
    pages = read_pages(clickhouse, "weir", part, minutes=False)
    read_counts(clickhouse, "weir", part)
    entries, _ = read_entries(clickhouse, "weir", part)
    suspects, _ = read_within(clickhouse, "weir", part, TOPIC_ID)
    behind = read_behind(
        clickhouse, "weir", {(topics.ACCEPTED, n): 1 << 60 for n in range(PARTITIONS)}, TOPIC_ID
    )
    if len(pages) != SOURCES or entries or len(behind) != PARTITIONS:
        raise RuntimeError(f"{len(pages)} pages, unbalanced: {entries[:3]}, {suspects[:3]}")


def _timed(ask: Callable[[], Any], pid: int, repeats: int) -> dict[str, float]:
    ask()
    seconds, cpus = [], []
    for _ in range(repeats):
        began, cpu = time.monotonic(), cpu_seconds(pid)
        ask()
        seconds.append(time.monotonic() - began)
        cpus.append(cpu_seconds(pid) - cpu)
    return {"seconds": statistics.median(seconds), "engine_cpu_seconds": statistics.median(cpus)}


def _read_rows(clickhouse: ClickHouse) -> dict[str, int]:
    """How many rows the question of everything reads, by the plan: of projections, not of events."""
    found = {}
    for table in ("events", "usage_deltas"):
        sql = (
            "SELECT sum(rows) FROM system.projection_parts WHERE database = 'weir'"
            f" AND table = '{table}' AND name = 'by_minute' AND active"
        )
        found[table] = _one(clickhouse, sql)
    return found


def _one(clickhouse: ClickHouse, sql: str) -> int:
    ((value,),) = clickhouse.ask(sql).rows
    return int(value)


def _print(console: Console, results: dict[str, Any]) -> None:
    console.print(
        f"{results['rows']:,} events in {results['parts']} parts, {results['accounts']:,} accounts;"
        f" projections of {results['read']['events']:,} and {results['read']['usage_deltas']:,} rows"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "seconds", "engine's CPU seconds"):
        table.add_column(name, justify="right" if name else "left")
    for name, figures in results["questions"].items():
        table.add_row(name, f"{figures['seconds']:.3f}", f"{figures['engine_cpu_seconds']:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
