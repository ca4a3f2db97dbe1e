"""Where the files that travel with the code are: schemas, migrations, deployment."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas"
MIGRATIONS = SCHEMAS / "clickhouse"
DEPLOY = ROOT / "deploy"
