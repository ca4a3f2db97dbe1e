"""`python -m services.identity`: every event gets its profile and session."""

import os
import threading

from services.core import topics
from services.core.registry import IdMapping
from services.edge import avro
from services.edge.registry import RegistryFollower
from services.identity.config import IdentitySettings
from services.identity.stage import IdentityStage
from services.runtime.changelog import KeyedChangelog
from services.runtime.settings import load
from services.wiring import Environment, WorkerSpec, run_worker
from services.wiring import main as run_main


def run(environment: Environment) -> None:
    settings = load(IdentitySettings, os.environ)
    sources = RegistryFollower(environment.kafka, threading.Event()).sources

    def mappings_of(source_id: str) -> tuple[IdMapping, ...]:
        source = sources.by_id.get(source_id)
        return source.mappings if source else ()

    spec = WorkerSpec(
        IdentityStage(mappings_of),
        topics.UNIQUE,
        KeyedChangelog(
            topics.PROFILES, avro.headers_of("Profile") | avro.headers_of("ErasedMarkers")
        ),
        settings.identity_batch_records,
    )
    run_worker(environment, spec)


def main() -> None:
    run_main("identity", run)


if __name__ == "__main__":
    main()
