"""Paths of the files that are shipped with the code: schemas, migrations, deployment.

They are package data of `weir.resources`: symbolic links in a checkout, real files in a wheel.
"""

from pathlib import Path

_RESOURCES = Path(__file__).resolve().parents[1] / "resources"
SCHEMAS = (_RESOURCES / "schemas").resolve()
MIGRATIONS = SCHEMAS / "clickhouse"
DEPLOY = (_RESOURCES / "deploy").resolve()
ROOT = DEPLOY.parent  # the root of the checkout, if this is one
