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

from weir.cli.base import EXIT_UNREACHABLE, cell, screen, settings_of
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
    type=click.FloatRange(0.2),
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
    looker = StatusCollector(
        settings_of(KafkaSettings),
        settings_of(ClickHouseSettings),
        settings_of(CommonSettings).data_dir,
        settings_of(GatewaySettings).retention,
    )
    try:
        if once or as_json or not sys.stdout.isatty():
            _show_once(looker, as_json)
        else:
            _show_live(looker, every)
    except KeyboardInterrupt:
        pass
    finally:
        looker.close()


def _show_once(looker: StatusCollector, as_json: bool) -> None:
    looker.look()
    time.sleep(MEASURED_SECONDS)
    look = looker.look()  # this also retries a service that was away for a moment
    if as_json:
        screen().print(msgspec.json.encode(dataclasses.asdict(look)).decode(), markup=False)
    else:
        screen().print(rendered(look))
    if look.kafka or look.clickhouse:
        raise SystemExit(EXIT_UNREACHABLE)


def _show_live(looker: StatusCollector, every: float) -> None:
    with Live(rendered(looker.look()), console=screen(), auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(rendered(looker.look()), refresh=True)


def rendered(look: StatusSnapshot) -> RenderableType:
    """Return the snapshot as tables, problems first."""
    parts: list[RenderableType] = []
    parts += [Text(why, style="red") for why in (look.kafka, look.clickhouse) if why]
    parts += [Text(_behind(behind), style="red") for behind in look.behind]
    parts += [Text(_held(group), style="yellow") for group in look.groups if group.held]
    parts.append(_processes(look.processes))
    if look.groups:
        parts += [Text(), _groups(look.groups)]
    if look.sources:
        parts += [Text(), _sources(look.sources)]
    if not look.clickhouse:
        parts += [Text(), Text(f"{look.stored:,} events stored")]
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
    for look in processes:
        name = f"{look.name}-{look.instance}" if look.instance else look.name
        healthy = look.health in ("ready", "running")
        table.add_row(
            name,
            str(look.pid),
            f"{look.cpu_percent:.0f} %",
            f"{look.memory_mb:.0f} MB",
            Text(look.health, style="green" if healthy else "red"),
        )
    return table


def _groups(groups: list[GroupStatus]) -> RenderableType:
    table = _table("group", ">instances", ">lag", ">arriving/s", ">done/s")
    for look in groups:
        table.add_row(
            look.group,
            Text(str(look.instances), style="" if look.instances else "red"),
            Text(f"{look.lag:,}", style="yellow" if look.lag else "green"),
            f"{look.arriving:,.0f}",
            f"{look.rate:,.0f}",
        )
    return table


def _sources(sources: list[SourceStatus]) -> RenderableType:
    table = _table("source", ">events/s", ">peak/s", "quotas")
    for look in sources:
        quotas = Text(", ").join(
            Text(
                f"{cell(q['name'])} {q['used']:,}/{q['limit']:,} {q['unit']} a {q['period']}",
                style="red" if q["exceeded"] else "",
            )
            for q in look.quotas
        )
        table.add_row(cell(look.source), f"{look.rate:,.1f}", f"{look.peak:,.0f}", quotas)
    return table


if __name__ == "__main__":
    command()
