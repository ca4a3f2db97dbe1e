"""`python -m weir.dedup`: run the dedup worker, which forwards first occurrences and sets duplicates aside."""

import os

from weir.core.registry import DAY_SECONDS, MAX_DEDUP_WINDOW_SECONDS
from weir.core.stages import DEDUP
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.service_main import Environment, WorkerSpec, run_worker
from weir.service_main import main as run_main
from weir.settings.dedup import DedupSettings
from weir.settings.environment import load

# The dedup window is measured in time of receipt, but the records of one partition are not in that order:
# gateways' clocks differ, and some records wait longer than others. So entries are kept for one more day.
KEPT_SECONDS = MAX_DEDUP_WINDOW_SECONDS + DAY_SECONDS


def run(environment: Environment) -> None:
    settings = load(DedupSettings, os.environ)
    spec = WorkerSpec(
        DEDUP,
        DedupStage(),
        PackedChangelog(DEDUP.changelog),
        settings.dedup_batch_records,
        KEPT_SECONDS * 1000,
    )
    run_worker(environment, spec)


def main() -> None:
    run_main(DEDUP.name, run)


if __name__ == "__main__":
    main()
