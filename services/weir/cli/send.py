"""`weir send`: send events from a file or a pipe to a gateway, with safe retries."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
import msgspec
import uvloop
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from weir.adapters.gateway_client import GatewayClient
from weir.cli.base import EXIT_NO, NumberRange, WrongInputError, notes, screen, settings_of
from weir.cli.delivery import DeliveryStoppedError, EventSender, RejectedLine
from weir.cli.ndjson import Chunks, batches, open_chunks
from weir.settings.cli import SendSettings
from weir.settings.gateway import GatewaySettings

SHOWN_REFUSALS = 5
REFRESH_SECONDS = 0.2


@dataclass(frozen=True)
class Sending:
    """The options of one run."""

    url: str
    key: str
    batch: int
    concurrency: int
    compress: bool
    patience: float
    ca_file: Path | None  # CAs that verify the gateway; None: the system's


class Refusals:
    """Keeps the first few rejected events for the summary; writes all of them to a file if one is given."""

    def __init__(self, path: Path | None) -> None:
        self.first: list[RejectedLine] = []
        self._file: IO[bytes] | None = path.open("wb") if path else None

    def add(self, refused: RejectedLine) -> None:
        if len(self.first) < SHOWN_REFUSALS:
            self.first.append(refused)
        if self._file is not None:
            self._file.write(refusal_line(refused))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def refusal_line(refused: RejectedLine) -> bytes:
    """Return one line of the rejects file: the reason, and the event as sent (as text if it is not JSON)."""
    broken = refused.code == "invalid_json"
    event = refused.event.decode(errors="replace") if broken else msgspec.Raw(refused.event)
    return (
        msgspec.json.encode(
            {
                "line": refused.line,
                "code": refused.code,
                "field": refused.field,
                "message": refused.text,
                "event": event,
            }
        )
        + b"\n"
    )


@click.command("send")
@click.argument("file")
@click.option("--url", help="The gateway.  [default: http://127.0.0.1:8080]")
@click.option("--key", help="The source's write key.  [default: $WEIR_WRITE_KEY]")
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1, 2_000))
@click.option("--concurrency", default=4, show_default=True, type=click.IntRange(1, 64))
@click.option("--gzip", "compress", is_flag=True, help="Compress the requests.")
@click.option(
    "--patience",
    default=60.0,
    show_default=True,
    type=NumberRange(0),
    help="Retry a batch for at most this many seconds.",
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write rejected events to this file, one per line, with the reason.",
)
def command(
    file: str,
    url: str | None,
    key: str | None,
    batch: int,
    concurrency: int,
    compress: bool,
    patience: float,
    rejects: Path | None,
) -> None:
    """Send events, one JSON object per line, from FILE (also .gz) or - (standard input).

    Events that the gateway cannot accept at the moment are retried with the same ids, so that
    nothing counts twice. An event without id or idempotency_key gets an id first. Exit code 1 if
    an event was rejected or not delivered.

    \b
    Example:
      weir send events.ndjson --key demo-write-key
      zcat big.ndjson.gz | weir send - --rejects refused.ndjson
    """
    settings = settings_of(SendSettings)
    used_key = key or settings.write_key
    if not used_key:
        raise WrongInputError("No write key: give --key, or set WEIR_WRITE_KEY.")
    address = url or settings.gateway_url or local_gateway()
    sending = Sending(
        address, used_key, batch, concurrency, compress, patience, settings.gateway_ca_file
    )
    try:
        chunks = open_chunks(file)
    except OSError as error:
        raise WrongInputError(f"{file} cannot be read: {error.strerror}.") from None
    refusals = Refusals(rejects)
    try:
        delivered = _run(sending, chunks, refusals)
    finally:
        refusals.close()
        chunks.close()
    if not delivered:
        raise SystemExit(EXIT_NO)


def local_gateway() -> str:
    gateway = settings_of(GatewaySettings)
    return f"{gateway.scheme}://127.0.0.1:{gateway.gateway_port}"


def _run(sending: Sending, chunks: Chunks, refusals: Refusals) -> bool:
    started = time.monotonic()
    stopped = ""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        delivery, stopped = runner.run(_send(sending, chunks, refusals))
    seconds = max(time.monotonic() - started, 1e-9)
    tally = delivery.tally
    for refused in refusals.first:
        place = f" ({refused.field})" if refused.field else ""
        notes().print(f"line {refused.line}: {refused.code}{place}: {refused.text}", markup=False)
    if tally.refused > SHOWN_REFUSALS:
        notes().print(
            f"... and {tally.refused - SHOWN_REFUSALS:,} more; --rejects FILE keeps them all"
        )
    screen().print(
        f"{tally.accepted:,} accepted, {tally.refused:,} rejected, {tally.undelivered:,} not"
        f" delivered of {tally.read:,} events read in {seconds:.1f} s"
        f" ({tally.accepted / seconds:,.0f}/s, {tally.retries} retries)"
    )
    if stopped:
        raise click.ClickException(stopped)
    return not delivery.stopping and tally.accepted == tally.read


async def _send(sending: Sending, chunks: Chunks, refusals: Refusals) -> tuple[EventSender, str]:
    client = GatewayClient(
        sending.url,
        sending.key,
        connections=sending.concurrency,
        compress=sending.compress,
        ca_file=sending.ca_file,
    )
    async with client:
        delivery = EventSender(client, sending.concurrency, sending.patience, refusals.add)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, _interrupt, loop, delivery)
        with _progress(chunks) as (progress, task):
            watcher = asyncio.create_task(_watch(delivery, chunks, progress, task))
            try:
                await delivery.run(batches(chunks, sending.batch))
            except DeliveryStoppedError as error:
                return delivery, str(error)
            finally:
                watcher.cancel()
                loop.remove_signal_handler(signal.SIGINT)
    return delivery, ""


def _interrupt(loop: asyncio.AbstractEventLoop, delivery: EventSender) -> None:
    notes().print(
        "Stopping: waiting for answers to requests in flight; Ctrl-C again stops at once."
    )
    loop.remove_signal_handler(signal.SIGINT)
    delivery.stop()


@contextmanager
def _progress(chunks: Chunks) -> Iterator[tuple[Progress, TaskID]]:
    columns = [
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:>9,.0f}/s"),
        TextColumn("{task.fields[accepted]:,} accepted"),
        TextColumn("{task.fields[refused]:,} rejected"),
        TextColumn("[yellow]{task.fields[trouble]}"),
    ]
    with Progress(*columns, console=notes(), transient=True) as progress:
        total = chunks.size or None
        yield (
            progress,
            progress.add_task("", total=total, rate=0, accepted=0, refused=0, trouble=""),
        )


async def _watch(delivery: EventSender, chunks: Chunks, progress: Progress, task: TaskID) -> None:
    """Redraw a few times a second at any event rate. The rate shown is that of the last second or so."""
    rate, before, measured_at = 0.0, 0, time.monotonic()
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        now, tally = time.monotonic(), delivery.tally
        present = (tally.accepted - before) / (now - measured_at)
        rate = present if not rate else rate * 0.8 + present * 0.2
        before, measured_at = tally.accepted, now
        progress.update(
            task,
            completed=chunks.position(),
            rate=rate,
            accepted=tally.accepted,
            refused=tally.refused,
            trouble=tally.trouble,
        )


if __name__ == "__main__":
    command()
