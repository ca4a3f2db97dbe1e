"""`python -m weir.identity`: run the identity worker, which gives every event its profile and session."""

import os
import sys

from weir.adapters.errors import UnavailableError
from weir.core.stages import IDENTITY
from weir.identity.snapshot import people_changelog
from weir.identity.stage import IdentityStage
from weir.registry.follower import RegistryFollower
from weir.registry.profile_id_salt import read_profile_ids
from weir.service_main import Environment, WorkerSpec, run_worker
from weir.service_main import main as run_main
from weir.settings.environment import load
from weir.settings.identity import IdentitySettings


def run(environment: Environment) -> None:
    settings = load(IdentitySettings, os.environ)
    try:
        ids = read_profile_ids(environment.kafka)
    except UnavailableError as fault:
        sys.exit(f"identity cannot start: {fault}")
    if ids is None:
        sys.exit("identity cannot start: there is no salt of profile ids; run `weir topics apply`")
    sources = RegistryFollower(environment.kafka).sources
    spec = WorkerSpec(
        IDENTITY,
        IdentityStage(sources.mappings_of, ids, sources.blocked_of, sources.session_gap_of),
        people_changelog(),
        settings.identity_batch_records,
    )
    run_worker(environment, spec)


def main() -> None:
    run_main(IDENTITY.name, run)


if __name__ == "__main__":
    main()
