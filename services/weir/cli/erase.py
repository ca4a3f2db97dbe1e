"""`weir erase`: have a person erased everywhere, and show what was removed where."""

import sys
import time
from contextlib import closing
from datetime import UTC, datetime

import click
import msgspec
import uuid_utils
from rich.table import Table

from weir.cli.base import (
    UnreachableError,
    WrongInputError,
    notes,
    screen,
    settings_of,
)
from weir.cli.progress import CommandProgress, reporting
from weir.cli.retrying import with_retries
from weir.cli.subject_options import (
    person_options,
    read_sources,
    subject_given,
    workspace_given,
)
from weir.erasure.model import NEVER, Erasure, Phase
from weir.erasure.topic import ErasureFollower, request_erasure
from weir.settings.shared import KafkaSettings

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 10.0  # after this, say so if no eraser has begun
PHASES: tuple[Phase, ...] = ("queued", "waiting", "deleting", "finished")


@click.command("erase")
@person_options
@click.option("--resume", "erasure_id", default="", help="Follow the erasure with this id.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--no-wait", is_flag=True, help="Request the erasure, print its id, and exit.")
@click.option(
    "--seconds", default=3600.0, show_default=True, help="Wait at most this many seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    profile: str,
    user: str,
    source: str,
    erasure_id: str,
    yes: bool,
    no_wait: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Erase a person: rows, profiles, state, rejected and dead payloads, and events in flight.

    The eraser does the work; this command requests it and follows it. You can interrupt the command
    and follow again with --resume. Later events of the person count as a new person's. The table
    shows what was removed, and when the topics have lost it too. An erasure cannot be undone.

    \b
    Example:
      weir erase --user ada
      weir erase --profile b67e7908-935b-5be7-9583-2db3eeff1cb5 --source shop --yes
      weir erase --resume 01a1fd6f-8faf-777b-86a6-dd52f10f1f92
    """
    if not erasure_id:
        subject = subject_given(profile, user)
        erasure_id = _request(subject, source, yes)
    elif profile or user or source:
        raise WrongInputError("--resume ID is enough: leave out --profile, --user and --source.")
    if no_wait:
        screen().print(erasure_id)
        return
    notes().print(
        f"[dim]Erasure {erasure_id}; to follow it again: weir erase --resume {erasure_id}[/]"
    )
    until = time.monotonic() + seconds
    with reporting() as report:
        erasure = with_retries(lambda: _follow(erasure_id, until, report))
    if as_json:
        screen().print(msgspec.json.encode(erasure).decode(), markup=False)
    else:
        show(erasure)


def _request(subject: str, source: str, yes: bool) -> str:
    """Request an erasure, durable on return; return its id, or that of the person's pending erasure."""
    workspace = workspace_given(subject, source, with_retries(read_sources))
    settings = settings_of(KafkaSettings)

    def pending_of() -> Erasure | None:
        with closing(ErasureFollower(settings)) as follower:
            return follower.erasures.pending_of(workspace, subject)

    pending = with_retries(pending_of)
    if pending is not None:
        return pending.erasure_id
    if not yes:
        if not sys.stdin.isatty():
            raise WrongInputError("An erasure cannot be undone: confirm it with --yes.")
        kind, _, name = subject.partition(":")
        click.confirm(f"Erase the {kind} {name} of workspace {workspace} for good?", abort=True)
    erasure = Erasure(str(uuid_utils.uuid7()), workspace, subject, int(time.time() * 1_000))
    with_retries(lambda: request_erasure(settings, erasure))  # a retry uses the same id
    return erasure.erasure_id


def _follow(erasure_id: str, until: float, report: CommandProgress) -> Erasure:
    """Wait for the erasure and return it finished. `until`: the deadline, by `time.monotonic`."""
    began = time.monotonic()
    has_warned = False
    with closing(ErasureFollower(settings_of(KafkaSettings))) as follower:
        report.begin(len(PHASES) - 1)
        while True:
            erasure = follower.erasures.by_id.get(erasure_id)
            if erasure is None:
                raise click.ClickException(f"There is no erasure {erasure_id}.")
            reached = PHASES.index(erasure.progress.phase)
            report.show_step(erasure.step)
            report.reach(reached)
            if erasure.state == "finished":
                return erasure
            now = time.monotonic()
            if now > until:
                raise UnreachableError(f"Not finished in time: {erasure.step}.")
            if not has_warned and now - began > PATIENCE_SECONDS and not reached:
                has_warned = True
                notes().print(
                    "[yellow]No eraser has started: is `weir eraser` (or `weir up`) running?[/]"
                )
            follower.poll(POLL_SECONDS)


def show(erasure: Erasure) -> None:
    """Print what was removed from each place, and when the rest is gone."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("place")
    table.add_column("removed", justify="right")
    table.add_column("no bytes left by (UTC)")
    for place in erasure.places:
        rows = "" if place.place.startswith("topic ") else f"{place.rows:,}"
        table.add_row(
            place.place,
            rows,
            "never: the topic keeps everything"
            if place.gone_by >= NEVER
            else time_text(place.gone_by),
        )
    screen().print(table)
    screen().print(
        f"Erased: everything received until {time_text(erasure.until)} UTC."
        f" The erasure stays on record: {erasure.erasure_id}, {erasure.subject_hash}"
    )


def time_text(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"


if __name__ == "__main__":
    command()
