"""`python -m services.identity`: every event gets its profile and session."""

import os
import sys

from services.core.stages import IDENTITY
from services.edge.faults import NotReachedError
from services.edge.profile_ids import read_profile_ids
from services.edge.registry import RegistryFollower
from services.identity.config import IdentitySettings
from services.identity.snapshot import people_changelog
from services.identity.stage import IdentityStage
from services.runtime.settings import load
from services.wiring import Environment, WorkerSpec, run_worker
from services.wiring import main as run_main


def run(environment: Environment) -> None:
    settings = load(IdentitySettings, os.environ)
    try:
        ids = read_profile_ids(environment.kafka)
    except NotReachedError as fault:
        sys.exit(f"identity cannot start: {fault}")
    if ids is None:
        sys.exit("identity cannot start: there is no salt of profile ids; run `weir topics apply`")
    sources = RegistryFollower(environment.kafka).sources
    spec = WorkerSpec(
        IDENTITY,
        IdentityStage(sources.mappings_of, ids, sources.blocked_of),
        people_changelog(),
        settings.identity_batch_records,
    )
    run_worker(environment, spec)


def main() -> None:
    run_main(IDENTITY.name, run)


if __name__ == "__main__":
    main()
