"""Command-line options that select a person, `--profile` or `--user`, and the person's workspace."""

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
    """Add the options `--profile`, `--user` and `--source` to a command."""
    for option in (
        click.option("--source", default="", help="A source of the person's workspace."),
        click.option("--user", default="", help="The person's user id."),
        click.option("--profile", default="", help="The person's profile id."),
    ):
        command = option(command)
    return command


def subject_given(profile: str, user: str) -> str:
    """Return `profile:<id>` or `user:<id>`. `WrongInputError` unless exactly one id is given."""
    profile, user = profile.strip(), user.strip()
    if bool(profile) == bool(user):
        raise WrongInputError("Give either --profile ID or --user ID.")
    return subject_of("profile", profile) if profile else subject_of("user", user)


def read_sources() -> dict[str, Source]:
    """Return every source in the registry now, by id. `UnavailableError` if Kafka does not answer."""
    settings = settings_of(KafkaSettings)
    KafkaAdmin(settings)  # fails with one sentence if Kafka does not answer
    return read_registry(settings).sources


def profile_ids() -> ProfileIds:
    """Return how this installation makes profile ids. `UnavailableError` if Kafka does not answer."""
    return read_profile_ids(settings_of(KafkaSettings)) or LEGACY_IDS


def person_rows() -> PersonRows:
    settings = settings_of(ClickHouseSettings)
    return PersonRows(ClickHouse(settings), settings.clickhouse_database)


def workspace_given(subject: str, source: str, sources: dict[str, Source]) -> str:
    """Return the workspace of the named source, else the only one, or the only one that knows the person.

    ClickHouse is queried only if there are several workspaces and no source is named, or if the named
    source is no longer declared.
    """
    if source in sources:
        return sources[source].workspace
    if source:  # a removed source: its events name the workspace
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
            "No person with this id is known yet; if the person's events are still in flight, name"
            " a source of the workspace with --source."
        )
    raise WrongInputError(
        f"A person with this id is known in several workspaces ({', '.join(sorted(workspaces))}):"
        " name a source of the workspace with --source."
    )
