"""`python -m weir.rates`: run the rates worker, which adds up each source's usage and checks its quotas."""

import os

from weir.adapters import avro
from weir.core.registry import Quota
from weir.core.stages import RATES
from weir.rates.stage import RatesStage
from weir.registry.follower import RegistryFollower
from weir.runtime.changelog import KeyedChangelog
from weir.service_main import Environment, WorkerSpec, run_worker
from weir.service_main import main as run_main
from weir.settings.environment import load
from weir.settings.rates import RatesSettings


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
