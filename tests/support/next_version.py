"""The next version of Weir, as tests know it: this one, with a field added as docs/schemas.md says."""

import json
import shutil
from pathlib import Path

from weir.core.resource_paths import ROOT, SCHEMAS

FIELD = "campaign"
DEFAULT = "none"


def grown(folder: Path) -> Path:
    """A copy of `schemas/` in which accepted events have one more field."""
    shutil.copytree(SCHEMAS, folder)
    path = folder / "accepted.avsc"
    accepted = json.loads(path.read_text())
    number = len(list((folder / "past").glob("accepted_*.avsc"))) + 1
    shutil.copy(path, folder / "past" / f"accepted_{number}.avsc")
    shutil.copy(folder / "resolved.avsc", folder / "past" / f"resolved_{number}.avsc")
    field = {"name": FIELD, "type": "string", "default": DEFAULT, "doc": "what brought the visit"}
    resolved = json.loads((folder / "resolved.avsc").read_text())
    own = resolved["fields"][len(accepted["fields"]) :]
    accepted["fields"].append(field)
    resolved["fields"] = [*accepted["fields"], *own]
    path.write_text(json.dumps(accepted))
    (folder / "resolved.avsc").write_text(json.dumps(resolved))
    return folder


def tree(folder: Path) -> Path:
    """The next version's code, to be started with `folder` as its working directory."""
    for name in ("services", "deploy"):
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    grown(folder / "schemas")
    return folder


def write_migration(folder: Path, view: str) -> None:
    """What `weir migrate` of the next version in this folder applies; `view`: see `columns`."""
    statements = ";\n".join(columns("{{database}}", view))
    (folder / "schemas" / "clickhouse" / f"900_{FIELD}.sql").write_text(f"{statements};\n")


def columns(database: str, view: str) -> list[str]:
    """What the next version's migration does; `view`: the SELECT that fills `events` at present."""
    before, _, source = view.rpartition("FROM")
    default = f"String DEFAULT '{DEFAULT}'"
    return [
        f"ALTER TABLE {database}.events ADD COLUMN IF NOT EXISTS {FIELD} {default}",
        f"ALTER TABLE {database}.landing_events ADD COLUMN IF NOT EXISTS {FIELD} {default}",
        f"ALTER TABLE {database}.landing_events_to_events MODIFY QUERY"
        f" {before.rstrip()}, {FIELD} FROM{source}",
    ]
