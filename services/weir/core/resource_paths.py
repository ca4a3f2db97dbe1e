"""Where the files that travel with the code are: schemas, migrations, deployment.

They are package data of `weir.resources`: links in a checkout, the files themselves in a wheel.
"""

from pathlib import Path

_RESOURCES = Path(__file__).resolve().parents[1] / "resources"
SCHEMAS = (_RESOURCES / "schemas").resolve()
MIGRATIONS = SCHEMAS / "clickhouse"
DEPLOY = (_RESOURCES / "deploy").resolve()
ROOT = DEPLOY.parent  # the checkout, if it is one
