"""`python -m services.identity`: every event gets its profile and session."""

import os

from services.core import topics
from services.edge import avro
from services.identity.config import IdentitySettings
from services.identity.stage import IdentityStage
from services.runtime.changelog import KeyedChangelog
from services.runtime.settings import load
from services.wiring import Environment, WorkerSpec, run_worker
from services.wiring import main as run_main


def run(environment: Environment) -> None:
    settings = load(IdentitySettings, os.environ)
    spec = WorkerSpec(
        IdentityStage(),
        topics.UNIQUE,
        KeyedChangelog(topics.PROFILES, avro.headers_of("Profile")),
        settings.identity_batch_records,
    )
    run_worker(environment, spec)


def main() -> None:
    run_main("identity", run)


if __name__ == "__main__":
    main()
