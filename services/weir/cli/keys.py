"""`weir keys`: scoped API keys in addition to those of the sources file; shown once, stored as digests."""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta

import click
from rich.table import Table

from weir.adapters.kafka.clients import write_entries
from weir.cli.base import WrongInputError, clear_errors, notes, screen, settings_of
from weir.core.registry import ApiKey, Scope
from weir.core.topics import REGISTRY
from weir.registry.contents import read_registry
from weir.registry.follower import KEY_KIND, key_entry, registry_key
from weir.registry.key_changes import (
    SCOPES,
    SHOWN_DIGITS,
    KeyRow,
    KeysError,
    NewKey,
    create_key,
    find,
    iso_time,
    lines,
    require_source,
    rotate_key,
)
from weir.registry.secret_encryption import new_key
from weir.settings.shared import KafkaSettings

NAME = re.compile(r"[^\x00-\x1f\x7f]{0,64}")
SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Duration(click.ParamType[timedelta]):
    """A click parameter type: a duration such as 90d."""

    name = "time"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = SPAN.fullmatch(value)
        if found is None:
            self.fail(f"{value} is not a duration such as 90d, 24h or 30m", param, ctx)
        return timedelta(**{UNITS[found[2]]: int(found[1])})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _write(*keys: ApiKey) -> None:
    write_entries(settings_of(KafkaSettings), REGISTRY, map(key_entry, keys))


def _show(made: NewKey) -> None:
    """Print the key on standard output, so that it can be piped, and its description on standard error."""
    click.echo(made.plain)
    key = made.key
    ends = f", until {iso_time(key.ends_at)}" if key.ends_at else ""
    notes().print(
        f"A {key.scope} key of {key.source}{ends}; digest {key.digest[:SHOWN_DIGITS]}."
        " Keep it: it is not stored, and not shown again."
    )


@contextmanager
def _wrong_input_on_keys_error() -> Iterator[None]:
    try:
        yield
    except KeysError as fault:
        raise WrongInputError(str(fault)) from None


@click.group("keys")
def command() -> None:
    """Create, list, revoke and rotate keys; gateways follow within two seconds.

    These keys are separate from those of the sources file. `weir apply` keeps them, unless it
    removes their source. Only their digests are stored.

    \b
    Example:
      weir keys create --source shop --scope write --name checkout --expires 90d
      weir keys list --source shop
      weir keys rotate 3f9a1c04 --overlap 24h
      weir keys revoke 3f9a1c04
    """


@command.command("create")
@click.option("--source", required=True, metavar="ID", help="The source that the key is for.")
@click.option("--scope", required=True, type=click.Choice(SCOPES), help="What the key may do.")
@click.option("--name", default="", metavar="TEXT", help="A note: who has the key.")
@click.option(
    "--expires", type=Duration(), help="End the key after this time, such as 90d. Default: never."
)
def create(source: str, scope: Scope, name: str, expires: timedelta | None) -> None:
    """Create a key and print it once.

    A write key sends events. A read key looks up where events are, and reads goals and their
    figures. An admin key does all that a read key does, changes goals, and has people of the
    source's workspace erased.

    \b
    Example:
      weir keys create --source shop --scope write --expires 90d
    """
    if not NAME.fullmatch(name):
        raise WrongInputError("--name must have at most 64 characters, and no control characters.")
    with clear_errors(), _wrong_input_on_keys_error():
        require_source(source, read_registry(settings_of(KafkaSettings)).sources)
        made = create_key(source, scope, name, _now_ms(), expires)
        _write(made.key)
    _show(made)


@command.command("list")
@click.option("--source", metavar="ID", help="List only this source's keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with whole digests.")
def list_keys(source: str | None, as_json: bool) -> None:
    """List every key with the beginning of its digest, never the key itself.

    The time when a key was last used is not recorded.

    \b
    Example:
      weir keys list --source shop
    """
    with clear_errors(), _wrong_input_on_keys_error():
        registered = read_registry(settings_of(KafkaSettings))
        if source is not None:
            require_source(source, registered.sources)
    found = lines(registered, source, _now_ms())
    if as_json:
        click.echo(json.dumps([asdict(line) for line in found], indent=2))
        return
    screen().print(_table(found))


def _table(found: Iterable[KeyRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("digest", "source", "scope", "name", "made by", "created", "ends", "state"):
        table.add_column(name, no_wrap=True)
    for line in found:
        name = line.name.replace("[", "\\[")
        row = (line.digest[:SHOWN_DIGITS], line.source, line.scope, name, line.made_by)
        table.add_row(*row, line.created_at or "", line.ends_at or "never", line.state)
    return table


@command.command("revoke")
@click.argument("digest")
def revoke(digest: str) -> None:
    """Revoke a key at once. DIGEST: the beginning of its digest, as `weir keys list` shows it.

    \b
    Example:
      weir keys revoke 3f9a1c04
    """
    with clear_errors(), _wrong_input_on_keys_error():
        settings = settings_of(KafkaSettings)
        key = find(digest, read_registry(settings))
        write_entries(settings, REGISTRY, [(registry_key(KEY_KIND, key.digest), None)])
    screen().print(f"Revoked: the {key.scope} key {key.digest[:SHOWN_DIGITS]} of {key.source}.")


@command.command("rotate")
@click.argument("digest")
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the old key stays valid beside the new one.",
)
@click.option("--expires", type=Duration(), help="End the new key after this time. Default: never.")
def rotate(digest: str, overlap: timedelta, expires: timedelta | None) -> None:
    """Create a key's successor and print it once; the old key ends after the overlap.

    \b
    Example:
      weir keys rotate 3f9a1c04 --overlap 24h
    """
    with clear_errors(), _wrong_input_on_keys_error():
        old = find(digest, read_registry(settings_of(KafkaSettings)))
        made, ending = rotate_key(old, _now_ms(), overlap, expires)
        _write(made.key, ending)
    _show(made)
    notes().print(f"The old key {old.digest[:SHOWN_DIGITS]} ends at {iso_time(ending.ends_at)}.")


@command.command("secret-key")
def secret_key() -> None:
    """Create a key for WEIR_SECRETS_KEY, which encrypts signing secrets in the registry.

    To change it: set NEW,OLD everywhere, run `weir apply`, then set only NEW.

    \b
    Example:
      weir keys secret-key > weir-secrets.key
    """
    click.echo(new_key())
