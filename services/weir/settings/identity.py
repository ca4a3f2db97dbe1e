"""Settings of identity."""

from dataclasses import dataclass

from weir.settings.environment import at_least, setting


@dataclass(frozen=True)
class IdentitySettings:
    identity_batch_records: int = setting(
        10_000, "maximum number of records in one transaction", "records", check=at_least(1)
    )
