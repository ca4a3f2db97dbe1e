"""`python -m services.rates`: what every source sends, held against its quotas."""

import os

from services.core.registry import Quota
from services.core.stages import RATES
from services.edge import avro
from services.edge.registry import RegistryFollower
from services.rates.config import RatesSettings
from services.rates.stage import RatesStage
from services.runtime.changelog import KeyedChangelog
from services.runtime.settings import load
from services.wiring import Environment, WorkerSpec, run_worker
from services.wiring import main as run_main


def run(environment: Environment) -> None:
    settings = load(RatesSettings, os.environ)
    sources = RegistryFollower(environment.kafka).sources

    def quotas_of(source_id: str) -> tuple[Quota, ...]:
        source = sources.by_id.get(source_id)
        return source.quotas if source else ()

    spec = WorkerSpec(
        RATES,
        RatesStage(quotas_of, sources.take_changed),
        KeyedChangelog(RATES.changelog, avro.is_one_of("SourceUsage")),
        settings.rates_batch_records,
    )
    run_worker(environment, spec)


def main() -> None:
    run_main(RATES.name, run)


if __name__ == "__main__":
    main()
