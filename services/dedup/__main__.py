"""`python -m services.dedup`: first occurrences on, repeats aside."""

import os

from services.core.stages import DEDUP
from services.dedup.config import DedupSettings
from services.dedup.stage import DedupStage
from services.runtime.changelog import PackedChangelog
from services.runtime.settings import load
from services.wiring import Environment, WorkerSpec, run_worker
from services.wiring import main as run_main


def run(environment: Environment) -> None:
    settings = load(DedupSettings, os.environ)
    spec = WorkerSpec(
        DEDUP,
        DedupStage(),
        PackedChangelog(DEDUP.changelog),
        settings.dedup_batch_records,
    )
    run_worker(environment, spec)


def main() -> None:
    run_main(DEDUP.name, run)


if __name__ == "__main__":
    main()
