"""The `weir` command line. A command's module is imported only when it runs, so `weir --help` stays fast."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from weir.core.service_modules import SERVICE_MODULES
from weir.core.stages import STAGES
from weir.runtime.private_files import UMASK
from weir.settings.environment import (
    SettingsError,
    flag,
    flags_of,
    load,
    unknown_variables,
    variable,
)

# command name -> (module whose `command` runs, summary line in `weir --help`)
COMMANDS = {
    "topics": ("weir.cli.topics", "Create, update and list the Kafka topics."),
    "migrate": ("weir.cli.migrate", "Create and update ClickHouse's tables."),
    "apply": ("weir.cli.apply", "Make the registry's sources match a YAML file."),
    "keys": ("weir.cli.keys", "Create, list, revoke and rotate keys."),
    "send": ("weir.cli.send", "Send events from a file to a gateway."),
    "status": ("weir.cli.status", "Show what runs, its lag and its rate."),
    "audit": ("weir.cli.audit", "Print the books; exit 1 if they do not balance."),
    "where": ("weir.cli.where", "Show what became of one event."),
    "sql": ("weir.cli.sql", "Run a ClickHouse query; show a table."),
    "experiment": ("weir.cli.experiment", "Compare an experiment's variations by a goal."),
    "erase": ("weir.cli.erase", "Erase a person; show what was removed where."),
    "export": ("weir.cli.export", "Export all data about a person."),
    "scan": ("weir.cli.scan", "Search for identifiers; exit 1 if any is found."),
    "dead": ("weir.cli.dead", "List, show and replay dead letters."),
    "rejected": ("weir.cli.rejected", "List, show and replay rejected events."),
    "replay": ("weir.cli.replay", "Restore rows that ClickHouse has lost."),
    "settings": ("weir.cli.settings", "List every setting: default, unit, meaning."),
}

# service name -> (summary line in `weir --help`, more help text, example)
SERVICES = {
    "up": (
        "Start everything on this machine; Ctrl-C stops it.",
        "Kafka and ClickHouse are embedded unless WEIR_KAFKA_BOOTSTRAP or WEIR_CLICKHOUSE_URL "
        "names others. All data is in WEIR_DATA_DIR: start again and Weir continues.",
        "WEIR_GATEWAY_PORT=8090 weir up",
    ),
    "gateway": (
        "Run the gateway: HTTP in, Kafka out.",
        "Accepts events and answers once Kafka has them.",
        "WEIR_GATEWAY_PROCESSES=4 weir gateway",
    ),
    **{
        stage.name: (
            f"Run one instance of {stage.name}.",
            f"{stage.does} Each instance needs its own WEIR_INSTANCE.",
            f"WEIR_INSTANCE=1 weir {stage.name}",
        )
        for stage in STAGES
    },
    "eraser": (
        "Run the eraser, which erases people on request.",
        "Carries out the erasures that `weir erase` and DELETE /v1/profiles/{id} request. One eraser "
        "is enough: a second one takes over from the first.",
        "WEIR_ERASURE_KEY=... weir eraser",
    ),
    "warehouse": (
        "Run the embedded ClickHouse.",
        "ClickHouse's engine behind ClickHouse's HTTP interface, for one machine.",
        "WEIR_CLICKHOUSE_PORT=8124 weir warehouse",
    ),
    "kafka": (
        "Run the embedded Kafka broker.",
        "Apache Kafka, one node, for one machine. Needs a JDK; Maven fetches its jars once.",
        "WEIR_KAFKA_PORT=9093 weir kafka",
    ),
}


# commands that read records; any version of Weir may have written these records
READERS = frozenset({"dead", "erase", "export", "rejected", "replay", "scan", "status", "where"})
GATEWAYS = {"up", "gateway"}  # the services that accept the gateway's flags


class LazyGroup(click.Group):
    """A click group that imports a command only when it is called, and does not list missing modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        present = [name for name, (module, _) in COMMANDS.items() if is_present(module)]
        return [*(name for name in SERVICES if is_present(SERVICE_MODULES[name])), *present]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in SERVICES:
            return service_command(cmd_name)
        module, _ = COMMANDS.get(cmd_name, ("", ""))
        if not module or not is_present(module):
            return None
        command: click.Command = importlib.import_module(module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list from the tables above, so that help imports no command."""
        names = self.list_commands(ctx)
        services = {name: line for name, (line, _, _) in SERVICES.items()}
        commands = {name: line for name, (_, line) in COMMANDS.items()}
        for title, lines in (("Services", services), ("Commands", commands)):
            with formatter.section(title):
                formatter.write_dl([(name, lines[name]) for name in names if name in lines])


def is_present(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def service_command(name: str) -> click.Command:
    """Return the command that runs a service in this process until it is told to stop."""
    line, more, example = SERVICES[name]

    def run(**flags: str | None) -> None:
        given = {variable(field): text for field, text in flags.items() if text is not None}
        if given:  # flags override the environment, also for processes that the service starts
            os.environ.update(given)
            check_settings(os.environ)
        module = importlib.import_module(f"{SERVICE_MODULES[name]}.__main__")
        main: Callable[[], Any] = module.main
        sys.exit(main())

    return click.Command(
        name,
        callback=run,
        params=_options() if name in GATEWAYS else [],
        help=f"{line}\n\n{more}\n\n\b\nExample:\n  {example}",
        short_help=line,
    )


def _options() -> list[click.Parameter]:
    """Return the gateway's settings that can be given as flags."""
    from weir.settings.gateway import GatewaySettings

    return [
        click.Option([flag(field), field], metavar="N", help=f"{meaning} ({variable(field)}).")
        for field, meaning in flags_of(GatewaySettings).items()
    ]


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="weir")
def cli() -> None:
    """Weir: an event pipeline that can prove nothing it accepted was lost or counted twice.

    Settings come from the environment (WEIR_*); `weir settings` lists them.

    \b
    Example:
      weir up
      weir send events.ndjson --key demo-write-key
      weir sql "SELECT event, count() FROM weir.events GROUP BY event"
    """
    check_settings(os.environ)
    if click.get_current_context().invoked_subcommand in READERS:
        from weir.cli.record_schemas import ask_for_schemas  # late import: loads Kafka's client

        ask_for_schemas()


def check_settings(environ: Mapping[str, str]) -> None:
    """Check the environment. `SettingsError` lists every fault: unknown variables and invalid values."""
    from weir.settings.catalogue import (
        ALL_SETTINGS,  # late import: it loads every service's settings, which --help does not need
    )

    faults = unknown_variables(environ, ALL_SETTINGS)
    for cls in ALL_SETTINGS:
        try:
            load(cls, environ)
        except SettingsError as fault:
            faults += [line for line in fault.faults if line not in faults]
    if faults:
        raise SettingsError(faults)


def _begin_service(arguments: Sequence[str]) -> None:
    """Set up a service's output before its settings are read, so that their faults are in its log format too."""
    name = next(iter(arguments), "")
    if name in SERVICES or (name == "audit" and "--watch" in arguments):
        from weir.runtime import process  # late import: --help does not need it

        process.begin(name, outputs=(2,) if name == "audit" else (1, 2))


def main() -> None:
    """Run the command line. Wrong settings: exit code 2 and one line each; else the command's exit code."""
    os.umask(UMASK)
    _begin_service(sys.argv[1:])
    try:
        cli()
    except SettingsError as fault:
        print(fault, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
