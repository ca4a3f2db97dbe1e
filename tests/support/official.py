"""Runs a product's own client, as it is published, against a gateway: the scripts in tests/clients."""

import os
import subprocess
import sys
from pathlib import Path

from weir.core.resource_paths import ROOT

SECONDS = 120
PACKAGES = Path(sys.prefix) / "clients"  # where the Makefile installs them


def run_client(product: str, *arguments: str) -> str:
    """What `tests/clients/<product>.py` printed; it ended well on return.

    `-P`: a script may have the name of the package that it imports.
    """
    ended = subprocess.run(
        [sys.executable, "-P", str(ROOT / "tests" / "clients" / f"{product}.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
