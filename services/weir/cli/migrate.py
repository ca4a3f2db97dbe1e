"""`weir migrate`: create and update ClickHouse's tables for this version of Weir."""

import click

from weir.adapters.clickhouse.insert import ClickHouseSchema
from weir.adapters.clickhouse.query import ClickHouseRefusedError, ClickHouseUnreachableError
from weir.cli.base import UnreachableError, screen, settings_of
from weir.settings.shared import ClickHouseSettings, MigrationSettings
from weir.sink.migrations import (
    Dialect,
    Migration,
    MigrationError,
    applied_to,
    apply_migrations,
    pending,
    read_migrations,
)


def dialect_of(clickhouse: ClickHouseSettings, migrations: MigrationSettings) -> Dialect:
    return Dialect(
        clickhouse.clickhouse_database, migrations.clickhouse_engines, migrations.clickhouse_cluster
    )


def migrate(clickhouse: ClickHouseSettings, migrations: MigrationSettings) -> list[Migration]:
    """Bring ClickHouse's tables up to date; return the migrations that were applied now.

    Raises `MigrationError`, `ClickHouseUnreachableError`, `ClickHouseRefusedError`.
    """
    return apply_migrations(ClickHouseSchema(clickhouse), dialect_of(clickhouse, migrations))


@click.command("migrate")
@click.option("--dry-run", is_flag=True, help="Print the statements and change nothing.")
def command(dry_run: bool) -> None:
    """Create and update ClickHouse's tables. Safe to repeat; forward only.

    \b
    Example:
      weir migrate --dry-run
      weir migrate
    """
    clickhouse, migrations = settings_of(ClickHouseSettings), settings_of(MigrationSettings)
    try:
        if dry_run:
            show(clickhouse, dialect_of(clickhouse, migrations))
            return
        applied = migrate(clickhouse, migrations)
    except MigrationError as error:
        raise click.ClickException(str(error)) from None
    except ClickHouseUnreachableError as error:
        raise UnreachableError(str(error)) from None
    except ClickHouseRefusedError as error:
        raise click.ClickException(f"ClickHouse refused: {error}") from None
    for migration in applied:
        screen().print(f"[green]+[/] {migration.file}")
    screen().print(f"{len(applied)} migrations applied." if applied else "Nothing to migrate.")


def show(clickhouse: ClickHouseSettings, dialect: Dialect) -> None:
    """Print what `weir migrate` would run."""
    due = pending(read_migrations(), applied_to(ClickHouseSchema(clickhouse), dialect))
    for migration in due:
        click.echo(f"-- {migration.file}")
        for statement in migration.statements(dialect):
            click.echo(statement + ";\n")
    click.echo(f"-- {len(due)} migrations would be applied." if due else "-- Nothing to migrate.")


if __name__ == "__main__":
    command()
