"""Whom a command is about: `--profile` or `--user`, and in which workspace."""

from collections.abc import Callable
from typing import Any

import click

from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.kafka.admin import KafkaAdmin
from weir.cli.base import WrongInputError, settings_of
from weir.core.identifiers import LEGACY_IDS, ProfileIds
from weir.core.registry import Source
from weir.erasure.model import subject_of
from weir.erasure.person_rows import PersonRows
from weir.registry.contents import read_registry
from weir.registry.profile_id_salt import read_profile_ids
from weir.settings.shared import ClickHouseSettings, KafkaSettings

Command = Callable[..., Any]


def person_options(command: Command) -> Command:
    """`--profile`, `--user`, `--source`."""
    for option in (
        click.option("--source", default="", help="A source of the person's workspace."),
        click.option("--user", default="", help="Whom: by user id."),
        click.option("--profile", default="", help="Whom: by profile id."),
    ):
        command = option(command)
    return command


def subject_given(profile: str, user: str) -> str:
    """`profile:<id>` or `user:<id>`; exactly one must be given."""
    profile, user = profile.strip(), user.strip()
    if bool(profile) == bool(user):
        raise WrongInputError("Say whom by either --profile ID or --user ID.")
    return subject_of("profile", profile) if profile else subject_of("user", user)


def read_sources() -> dict[str, Source]:
    """Every source by id, as the registry has them now. `NotReachedError`."""
    settings = settings_of(KafkaSettings)
    KafkaAdmin(settings)  # says in a sentence where Kafka does not answer
    return read_registry(settings).sources


def profile_ids() -> ProfileIds:
    """How this installation mints profile ids. `NotReachedError`."""
    return read_profile_ids(settings_of(KafkaSettings)) or LEGACY_IDS


def person_rows() -> PersonRows:
    settings = settings_of(ClickHouseSettings)
    return PersonRows(ClickHouse(settings), settings.clickhouse_database)


def workspace_given(subject: str, source: str, sources: dict[str, Source]) -> str:
    """Of the source that was named, else the only one in which somebody is known by that name.

    ClickHouse is asked only where there are several workspaces and no source is named, or one that
    is not declared any more.
    """
    if source in sources:
        return sources[source].workspace
    if source:  # one that was removed, as its events tell
        past = person_rows().workspaces_of_source(source)
        if len(past) != 1:
            raise WrongInputError(
                f"There is no source {source}; `weir apply` lists those that are declared."
            )
        return past[0]
    workspaces = {s.workspace for s in sources.values()}
    if len(workspaces) > 1:
        workspaces = set(person_rows().workspaces_of(subject))
    if len(workspaces) == 1:
        return workspaces.pop()
    if not workspaces:
        raise click.ClickException(
            "Nobody is known by that name yet; to go by what is on its way, name the workspace by"
            " one of its sources: --source."
        )
    raise WrongInputError(
        f"Somebody is known by that name in several workspaces ({', '.join(sorted(workspaces))}):"
        " name one of its sources with --source."
    )
