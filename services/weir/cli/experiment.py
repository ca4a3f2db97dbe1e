"""`weir experiment`: compare an experiment's variations by a goal."""

from datetime import UTC, datetime

import click
import msgspec
from rich.table import Table
from rich.text import Text

from weir.adapters.clickhouse.query import ClickHouse
from weir.cli.base import (
    TimeParam,
    WrongInputError,
    clear_errors,
    screen,
    settings_of,
)
from weir.settings.shared import ClickHouseSettings

# The meaning of the columns and their formulas: schemas/clickhouse/005_goals_experiments.sql
RESULTS = """
SELECT *
FROM `DATABASE`.experiment_results(
    experiment = {key:String}, goal = {goal:String}, control = {control:String},
    source = {source:String}, since = {since:String}, until = {until:String}
)
ORDER BY variation
"""
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
END = datetime(2299, 12, 31, tzinfo=UTC)
COUNTS = ("exposed", "mixed", "converted", "conversions")
SIGNIFICANT = 0.05


class Variation(msgspec.Struct, frozen=True):
    """A row of the view `experiment_results`; None where there is nothing to compare."""

    variation: str
    is_control: bool
    exposed: int
    mixed: int
    converted: int
    conversions: int
    conversion_rate: float | None
    value_sum: float
    mean_value: float | None
    rate_difference: float | None
    rate_difference_low: float | None
    rate_difference_high: float | None
    rate_lift: float | None
    rate_lift_low: float | None
    rate_lift_high: float | None
    rate_p_value: float | None
    mean_difference: float | None
    mean_difference_low: float | None
    mean_difference_high: float | None
    mean_lift: float | None
    mean_lift_low: float | None
    mean_lift_high: float | None
    mean_p_value: float | None


def read_experiment(
    clickhouse: ClickHouse, database: str, parameters: dict[str, str]
) -> list[Variation]:
    """Return every variation that somebody was exposed to, by name. Adapter errors pass through."""
    rows = clickhouse.records(RESULTS.replace("DATABASE", database), parameters)
    return [msgspec.convert(row, Variation, strict=False) for row in rows]


@click.command("experiment")
@click.argument("key")
@click.option("--goal", required=True, help="The event whose people and values are compared.")
@click.option("--control", default="", help="The variation to compare with; default: the first.")
@click.option(
    "--from", "start", type=TimeParam(), help="Exposures and events from this time (UTC) on."
)
@click.option("--to", "end", type=TimeParam(), help="Exposures and events before this time (UTC).")
@click.option("--source", default="", help="Only exposures of this source; goal events of any.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every figure.")
def command(
    key: str,
    goal: str,
    control: str,
    start: datetime | None,
    end: datetime | None,
    source: str,
    as_json: bool,
) -> None:
    """Compare the variations of experiment KEY by what people did after they first saw one.

    A rate is the share of exposed people who did GOAL at least once; a mean is the sum of its
    values divided by all exposed people. Lifts are relative to the control, with 95 % intervals.
    People who saw several variations are left out and counted as mixed.

    \b
    Example:
      weir experiment 42 --goal purchase
      weir experiment checkout --goal purchase --control B --from 2026-01-01 --json
    """
    if start and end and start >= end:
        raise WrongInputError("--from must be before --to.")
    settings = settings_of(ClickHouseSettings)
    parameters = {
        "key": key,
        "goal": goal,
        "control": control,
        "source": source,
        "since": _clickhouse_time(start or BEGINNING),
        "until": _clickhouse_time(end or END),
    }
    with clear_errors():
        variations = read_experiment(ClickHouse(settings), settings.clickhouse_database, parameters)
    if not variations:
        raise click.ClickException(f"Nobody was exposed to {key}.")
    if control and not any(variation.is_control for variation in variations):
        known = ", ".join(variation.variation for variation in variations)
        raise WrongInputError(f"{control} is not a variation of {key}; the variations are {known}.")
    if as_json:
        shown = {"experiment": key, "goal": goal, "variations": variations}
        screen().print(msgspec.json.encode(shown).decode(), markup=False)
    else:
        _show(variations)


def _clickhouse_time(at: datetime) -> str:
    """Return a time as ClickHouse reads a DateTime64(3)."""
    text = at.astimezone(UTC).isoformat(" ", timespec="milliseconds")
    return text.removesuffix("+00:00")


def _show(variations: list[Variation]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("variation")
    for name in (*COUNTS, "rate", "lift", "95 %", "p", "mean", "lift", "95 %", "p"):
        table.add_column(name, justify="right")
    for row in variations:
        name = f"{row.variation} (control)" if row.is_control else row.variation
        table.add_row(
            Text(name),
            *(f"{getattr(row, column):,}" for column in COUNTS),
            _share(row.conversion_rate),
            *_lift(row.rate_lift, row.rate_lift_low, row.rate_lift_high, row.rate_p_value),
            "-" if row.mean_value is None else f"{row.mean_value:,.4g}",
            *_lift(row.mean_lift, row.mean_lift_low, row.mean_lift_high, row.mean_p_value),
        )
    screen().print(table)


def _lift(
    lift: float | None, low: float | None, high: float | None, p_value: float | None
) -> tuple[Text, ...]:
    """Return the cells (lift, interval, p-value), in bold if the p-value is below SIGNIFICANT."""
    style = "bold" if p_value is not None and p_value < SIGNIFICANT else ""
    interval = "" if low is None or high is None else f"{low:+.1%} … {high:+.1%}"
    cells = (
        "" if lift is None else f"{lift:+.1%}",
        interval,
        "" if p_value is None else f"{p_value:.3g}",
    )
    return tuple(Text(cell, style=style) for cell in cells)


def _share(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2%}"


if __name__ == "__main__":
    command()
