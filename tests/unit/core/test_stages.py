"""The table of stages agrees with services, compose file, topics file and the steps' outputs."""

import importlib.util

import yaml

from weir.cli.main import SERVICES
from weir.cli.topics import TOPICS_FILE, read_topics
from weir.core import topics
from weir.core.batch import Step
from weir.core.resource_paths import DEPLOY
from weir.core.service_modules import SERVICE_MODULES
from weir.core.stages import EVENT_STAGES, GROUPS, SINK, STAGES, service_of
from weir.dedup.stage import DedupStage
from weir.identity.stage import IdentityStage
from weir.rates.stage import RatesStage
from weir.settings.embedded import UpSettings

STEPS: tuple[Step, ...] = (DedupStage(), IdentityStage(), RatesStage(lambda source: (), set))


def test_every_stage_is_a_service_of_cli_compose_file_and_weir_up() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for stage in STAGES:
        assert importlib.util.find_spec(f"{SERVICE_MODULES[stage.name]}.__main__"), stage
        assert stage.name in SERVICES
        assert compose[stage.name]["command"] == stage.name
        assert UpSettings().instances(stage.name) == 1
        assert service_of(stage.group) == stage.name


def test_topics_of_every_stage_are_declared_with_matching_partition_counts() -> None:
    for profile in ("local", "production"):
        declared = {topic.name: topic for topic in read_topics(TOPICS_FILE, profile)}
        for stage in STAGES:
            assert {*stage.reads, *stage.writes} <= declared.keys()
            if stage.changelog:  # a partition of the state for each of the input
                (read,) = stage.reads
                assert declared[stage.changelog].partitions == declared[read].partitions


def test_the_steps_write_the_topics_that_the_stage_table_lists() -> None:
    assert [step.name for step in STEPS] == [stage.name for stage in STAGES if stage.changelog]
    for step, stage in zip(STEPS, STAGES, strict=False):
        assert step.writes == stage.outputs
        assert set(step.writes) <= set(stage.writes)


def test_every_event_topic_is_written_by_one_stage_and_read_by_another() -> None:
    for topic, stage in EVENT_STAGES.items():
        assert topic in stage.reads
        written = topic == topics.ACCEPTED or any(topic in other.outputs for other in STAGES)
        assert written, f"nobody writes {topic}"
    assert GROUPS[SINK.group] == SINK.reads
