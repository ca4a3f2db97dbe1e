"""Settings of rates."""

from dataclasses import dataclass

from weir.settings.environment import at_least, setting


@dataclass(frozen=True)
class RatesSettings:
    rates_batch_records: int = setting(
        10_000, "maximum number of usage deltas in one transaction", "records", check=at_least(1)
    )
