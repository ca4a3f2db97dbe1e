"""`weir export`: write everything that ClickHouse holds about a person, one JSON object per line."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.progress import Progress, SpinnerColumn, TextColumn

from weir.adapters.avro import GARBAGE_ERRORS, UnknownSchemaError, decode_any
from weir.adapters.clickhouse.query import ClickHouse
from weir.cli.base import clear_errors, notes, settings_of
from weir.cli.letter_view import readable
from weir.cli.subject_options import (
    person_options,
    person_rows,
    profile_ids,
    read_sources,
    subject_given,
    workspace_given,
)
from weir.erasure.export import PersonExport
from weir.erasure.model import ErasedPerson
from weir.settings.shared import ClickHouseSettings

SHOW_EVERY = 500  # rows


@click.command("export")
@person_options
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; default: stdout.",
)
def command(profile: str, user: str, source: str, output: Path | None) -> None:
    """Write everything that ClickHouse holds about a person as NDJSON.

    The first line has the person's identifiers. Then follows one line per row, with its kind:
    profile, identifier (with its traits), merge, conflict, session, event, duplicate, rejected,
    dead. Events that were accepted within the last second may be missing.

    \b
    Example:
      weir export --user ada --output ada.ndjson
      weir export --profile b67e7908-935b-5be7-9583-2db3eeff1cb5 | jq .kind
    """
    subject = subject_given(profile, user)
    counts: Counter[str] = Counter()
    with clear_errors():
        sources = read_sources()
        workspace = workspace_given(subject, source, sources)
        person = person_rows().whole(ErasedPerson.of(workspace, subject, profile_ids()))
        settings = settings_of(ClickHouseSettings)
        export = PersonExport(ClickHouse(settings), settings.clickhouse_database)
        workspaces = {s.id: s.workspace for s in sources.values()}
        with (
            click.open_file(str(output) if output else "-", "wb") as lines,
            Progress(SpinnerColumn(), TextColumn("{task.description}"), console=notes()) as shown,
        ):
            task = shown.add_task("")
            lines.write(_line("person", _identifiers_of(person)))
            for kind, row in export.rows(person, workspaces):
                lines.write(_line(kind, row))
                counts[kind] += 1
                if counts.total() % SHOW_EVERY == 0:
                    shown.update(task, description=_summed(counts))
            shown.update(task, description=_summed(counts) or "no data")
        sys.stdout.flush()


def _identifiers_of(person: ErasedPerson) -> dict[str, Any]:
    return {
        "workspace": person.workspace,
        "identifiers": sorted(person.names),
        "profile_ids": sorted(person.profiles),
    }


def _line(kind: str, row: dict[str, Any]) -> bytes:
    members = {
        name.removesuffix("_64"): _readable(value) if isinstance(value, bytes) else value
        for name, value in row.items()
    }
    return msgspec.json.encode({"kind": kind} | members) + b"\n"


def _readable(content: bytes) -> Any:
    """Return one of Weir's records as its fields, text as text, and anything else in hex."""
    try:
        return readable(decode_any(content)[1])
    except (UnknownSchemaError, *GARBAGE_ERRORS):
        pass
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"hex": content.hex()}


def _summed(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.items())


if __name__ == "__main__":
    command()
