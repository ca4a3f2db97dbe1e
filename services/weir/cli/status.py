"""`weir status`: show processes, the lag of each consumer group, and the event rate of each source."""

import dataclasses
import sys
import time

import click
import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from weir.cli.base import EXIT_UNREACHABLE, NumberRange, cell, screen, settings_of
from weir.cli.status_snapshot import (
    GroupStatus,
    ProcessStatus,
    RetentionStatus,
    SourceStatus,
    StatusCollector,
    StatusSnapshot,
)
from weir.core.retention import ALL
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import ClickHouseSettings, CommonSettings, KafkaSettings

MEASURED_SECONDS = 1.0  # between the two snapshots from which `--once` computes rates


@click.command("status")
@click.option(
    "--once",
    is_flag=True,
    help="Show it once and exit; exit code 3 if Kafka or ClickHouse does not answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it once, as JSON.")
@click.option(
    "--every",
    default=1.0,
    show_default=True,
    type=NumberRange(0.2),
    help="Seconds between two refreshes.",
)
def command(once: bool, as_json: bool, every: float) -> None:
    """Show processes, consumer groups, rates and quotas; refresh until Ctrl-C.

    If the output is a pipe, show them once, as with --once.

    \b
    Example:
      weir status
      weir status --json | jq .groups
    """
    collector = StatusCollector(
        settings_of(KafkaSettings),
        settings_of(ClickHouseSettings),
        settings_of(CommonSettings).data_dir,
        settings_of(GatewaySettings).retention,
    )
    try:
        if once or as_json or not sys.stdout.isatty():
            _show_once(collector, as_json)
        else:
            _show_live(collector, every)
    except KeyboardInterrupt:
        pass
    finally:
        collector.close()


def _show_once(collector: StatusCollector, as_json: bool) -> None:
    collector.snapshot()
    time.sleep(MEASURED_SECONDS)
    snapshot = collector.snapshot()  # this also retries a service that was away for a moment
    if as_json:
        screen().print(msgspec.json.encode(dataclasses.asdict(snapshot)).decode(), markup=False)
    else:
        screen().print(rendered(snapshot))
    if snapshot.kafka or snapshot.clickhouse:
        raise SystemExit(EXIT_UNREACHABLE)


def _show_live(collector: StatusCollector, every: float) -> None:
    with Live(rendered(collector.snapshot()), console=screen(), auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(rendered(collector.snapshot()), refresh=True)


def rendered(snapshot: StatusSnapshot) -> RenderableType:
    """Return the snapshot as tables, problems first."""
    parts: list[RenderableType] = []
    parts += [Text(why, style="red") for why in (snapshot.kafka, snapshot.clickhouse) if why]
    parts += [Text(_behind(behind), style="red") for behind in snapshot.behind]
    parts += [Text(_held(group), style="yellow") for group in snapshot.groups if group.held]
    parts.append(_processes(snapshot.processes))
    if snapshot.groups:
        parts += [Text(), _groups(snapshot.groups)]
    if snapshot.sources:
        parts += [Text(), _sources(snapshot.sources)]
    if not snapshot.clickhouse:
        parts += [Text(), Text(f"{snapshot.stored:,} events stored")]
    return Group(*parts)


def _behind(behind: RetentionStatus) -> str:
    text = (
        f"{behind.group} has not read records of {behind.topic} that have used {behind.share:.0%}"
        " of their retention: run more instances, repair it, or lengthen the retention."
    )
    if not behind.refused:
        return text
    whose = "every source" if ALL in behind.refused else ", ".join(behind.refused)
    return f"{text} Until then gateways reject new events of {whose} (503)."


def _held(group: GroupStatus) -> str:
    return (
        f"{group.group}: {group.held:,} of its records wait behind an open transaction in"
        f" {', '.join(group.held_in)}. They can be read once it ends: at the latest after the"
        " transaction timeout of its producer."
    )


def _table(*columns: str) -> Table:
    """Return a table; columns whose names start with `>` are numbers, aligned right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    return table


def _processes(processes: list[ProcessStatus]) -> RenderableType:
    if not processes:
        return Text("No process of `weir up` runs on this data folder.", style="dim")
    table = _table("process", ">pid", ">cpu", ">memory", "health")
    for process in processes:
        name = f"{process.name}-{process.instance}" if process.instance else process.name
        healthy = process.health in ("ready", "running")
        table.add_row(
            name,
            str(process.pid),
            f"{process.cpu_percent:.0f} %",
            f"{process.memory_mb:.0f} MB",
            Text(process.health, style="green" if healthy else "red"),
        )
    return table


def _groups(groups: list[GroupStatus]) -> RenderableType:
    table = _table("group", ">instances", ">lag", ">arriving/s", ">done/s")
    for group in groups:
        table.add_row(
            group.group,
            Text(str(group.instances), style="" if group.instances else "red"),
            Text(f"{group.lag:,}", style="yellow" if group.lag else "green"),
            f"{group.arriving:,.0f}",
            f"{group.rate:,.0f}",
        )
    return table


def _sources(sources: list[SourceStatus]) -> RenderableType:
    table = _table("source", ">events/s", ">peak/s", "quotas")
    for source in sources:
        quotas = Text(", ").join(
            Text(
                f"{cell(q['name'])} {q['used']:,}/{q['limit']:,} {q['unit']} a {q['period']}",
                style="red" if q["exceeded"] else "",
            )
            for q in source.quotas
        )
        table.add_row(cell(source.source), f"{source.rate:,.1f}", f"{source.peak:,.0f}", quotas)
    return table


if __name__ == "__main__":
    command()
