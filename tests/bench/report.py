"""What was measured, as tables on the terminal and as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Results = dict[str, Any]


def write_json(path: Path, results: Results) -> None:
    path.write_text(json.dumps(results, indent=2, allow_nan=True) + "\n")


def print_tables(console: Console, results: Results) -> None:
    """A table a kind of measurement; only what was measured."""
    console.print(f"[bold]{_machine(results['machine'])}[/]")
    if workers := results.get("workers"):
        console.print(_workers(workers))
    if gateway := results.get("gateway"):
        console.print(_gateway(gateway))
    if doors := results.get("doors"):
        console.print(_doors(doors))
    if chain := results.get("chain"):
        for table in _chain(chain):
            console.print(table)
    if up := results.get("up"):
        console.print(f"`weir up`, warm start: {up['seconds']:.1f} s until everything is ready")


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['cores']} × {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}, load before {machine['load_before'][0]}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _workers(workers: Mapping[str, Any]) -> Table:
    table = _table(
        "Each worker alone, draining a full topic",
        *("stage", "events", "events/s", "CPU µs/event", "RSS rest", "peak MiB", "start CPU s"),
    )
    for name, figures in workers.items():
        table.add_row(
            name,
            f"{figures['events']:,}",
            f"{figures['events_per_second']:,.0f}",
            f"{figures['cpu_us_per_event']:.1f}",
            f"{figures['rest_mib']:.0f}",
            f"{figures['peak_mib']:.0f}",
            f"{figures['start_cpu_seconds']:.2f}",
        )
        if "engine_cpu_us_per_event" in figures:
            engine = f"{figures['engine_cpu_us_per_event']:.1f}"
            table.add_row("  engine", "", "", engine, "", f"{figures['engine_peak_mib']:.0f}", "")
    return table


def _gateway(gateway: Mapping[str, Any]) -> Table:
    table = _table(
        "The gateway alone, against a broker",
        *("load", "requests/s", "events/s", "CPU µs/event", "p50 ms", "p99 ms", "peak MiB"),
    )
    for load, figures in gateway.items():
        table.add_row(
            load,
            f"{figures['requests_per_second']:,.0f}",
            f"{figures['events_per_second']:,.0f}",
            f"{figures['cpu_us_per_event']:.1f}",
            f"{figures['p50_ms']:.1f}",
            f"{figures['p99_ms']:.1f}",
            f"{figures['peak_mib']:.0f}",
        )
    return table


def _doors(doors: list[Mapping[str, Any]]) -> Table:
    table = _table(
        "The gateway at each door; the ratio is to /v1/events with as many events a request",
        *("door", "events a request", "events/s", "p50 ms", "CPU µs/event", "ratio"),
    )
    for figures in doors:
        table.add_row(
            figures["path"],
            f"{figures['batch']:,}",
            f"{figures['events_per_second']:,.0f}",
            f"{figures['p50_ms']:.1f}",
            f"{figures['cpu_us_per_event']:.1f}",
            f"{figures['cpu_ratio']:.2f}",
        )
    return table


def _chain(chain: Mapping[str, Any]) -> list[Table]:
    tables = []
    if latency := chain.get("latency"):
        table = _table(
            "Accepted to queryable",
            *("events/s", "events", "p50 s", "p99 s", "worst s", "missing", "sender late s"),
        )
        for figures in latency:
            table.add_row(
                f"{figures['rate']:,}",
                f"{figures['events']:,}",
                *(f"{figures[name]:.2f}" for name in ("p50", "p99", "worst")),
                f"{figures['missing']:,}",
                f"{figures['sender_late_seconds']:.2f}",
            )
        tables.append(table)
    processes = _table(
        "Whole chain, each process", "process", "CPU µs/event", "idle %", "RSS rest", "peak MiB"
    )
    drain = chain["drain"]
    for name, figures in drain["processes"].items():
        processes.add_row(
            name,
            f"{figures['cpu_us_per_event']:.1f}",
            f"{chain['idle'][name]['percent']:.1f}",
            f"{chain['idle'][name]['rest_mib']:.0f}",
            f"{figures['peak_mib']:.0f}",
        )
    processes.caption = (
        f"{drain['events']:,} events drained in {drain['seconds']:.1f} s: "
        f"{drain['events_per_second']:,.0f} events/s"
    )
    tables.append(processes)
    return tables
