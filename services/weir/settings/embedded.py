"""Settings for running everything on one machine: the embedded broker and `weir up`."""

from dataclasses import dataclass, make_dataclass
from pathlib import Path

from weir.core.resource_paths import DEPLOY
from weir.core.stages import STAGES
from weir.settings.environment import at_least, setting


@dataclass(frozen=True)
class BrokerSettings:
    kafka_heap_megabytes: int = setting(
        512, "heap of the embedded broker", "MiB", check=at_least(128)
    )


# One setting for each stage: WEIR_DEDUP_INSTANCES, ... The type checker does not know a class that is made so.
StageInstances = make_dataclass(
    "StageInstances",
    [
        (
            f"{stage.name}_instances",
            int,
            setting(1, f"processes of {stage.name} that `weir up` starts", check=at_least(0)),
        )
        for stage in STAGES
    ],
    frozen=True,
)


@dataclass(frozen=True)
class UpSettings(StageInstances):  # type: ignore[misc,valid-type]  # see above
    audit_seconds: int = setting(
        60,
        "how often the audit that `weir up` starts checks the books; 0: no audit",
        "s",
        check=at_least(0),
    )
    metrics_base_port: int = setting(
        9100,
        "`weir up` gives each worker the next free port from this one on as WEIR_METRICS_PORT; "
        "0: any free port",
        check=at_least(0),
    )
    sources_file: Path = setting(
        DEPLOY / "sources.yaml", "sources that `weir up` applies when it starts"
    )
    log_megabytes: int = setting(
        16,
        "size at which a child's log is rotated; one older log is kept",
        "MiB",
        check=at_least(1),
    )

    def instances(self, stage: str) -> int:
        """Return how many processes of a stage (`weir.core.stages`) to start."""
        return int(getattr(self, f"{stage}_instances"))
