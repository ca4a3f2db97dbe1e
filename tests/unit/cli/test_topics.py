"""`weir topics` reads the topics file, plans creations and config changes, and rejects bad changes."""

import re
from pathlib import Path

import pytest

from weir.adapters.kafka.admin import Topic
from weir.cli.topics import TOPICS_FILE, TopicsError, differing, kept, plan, read_topics
from weir.core import topics as names
from weir.core.record_limits import topic_bytes

FILE = """
profiles:
  local: {partitions: 4, replicas: 1, min_insync_replicas: 1}
topics:
  events: {retention_hours: 24}
  table: {compacted: true, partitions: 1}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "topics.yaml"
    path.write_text(text)
    return path


def test_the_projects_topics_file_declares_every_topic_for_both_profiles() -> None:
    used = {value for name, value in vars(names).items() if re.fullmatch("[A-Z_]+", name)}
    for profile in ("local", "production"):
        topics = {topic.name: topic for topic in read_topics(TOPICS_FILE, profile)}
        assert used - {"rates.state"} <= set(topics)
        assert topics["events.unique"].partitions == topics["profiles"].partitions
    assert topics["events.accepted"].config["min.insync.replicas"] == "2"


def test_a_topic_takes_partitions_of_its_profile_unless_it_sets_its_own(tmp_path: Path) -> None:
    events, table = read_topics(written(tmp_path, FILE), "local")
    assert (events.partitions, table.partitions) == (4, 1)
    assert events.config["cleanup.policy"] == "delete"
    assert events.config["retention.ms"] == str(24 * 3_600_000)
    assert events.config["max.message.bytes"] == str(topic_bytes("events"))
    assert table.config["cleanup.policy"] == "compact"
    assert "retention.ms" not in table.config


def test_segments_roll_within_a_quarter_of_retention_or_compaction_lag(tmp_path: Path) -> None:
    for topic in read_topics(written(tmp_path, FILE), "local"):
        segment = int(topic.config["segment.ms"])
        due = int(topic.config.get("retention.ms") or topic.config["max.compaction.lag.ms"])
        assert segment <= due / 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("profiles: {}\ntopics: {}", "no profile local"),
        ("topics: [", "not valid YAML"),
        (FILE.replace("compacted", "compact"), "unknown field `compact`"),
        (FILE.replace("24", "long"), "Expected `float`, got `str`"),
    ],
)
def test_an_invalid_topics_file_raises_an_error_that_names_the_fault(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(TopicsError, match=re.escape(expected)):
        read_topics(written(tmp_path, text), "local")


def test_a_missing_topics_file_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(TopicsError, match="cannot be read"):
        read_topics(tmp_path / "none.yaml", "local")


def test_missing_topics_are_created_and_differing_configs_are_changed() -> None:
    wanted = [Topic("new", 4, 1, {"a": "1"}), Topic("old", 4, 1, {"a": "1", "b": "2"})]
    present = {"old": Topic("old", 4, 1, {"a": "1", "b": "3", "other": "kept"})}
    changes = plan(wanted, present)
    assert [(change.action, change.topic, change.detail) for change in changes] == [
        ("create", "new", "4 partitions, 1 replicas"),
        ("mend", "old", "b: 3 -> 2"),
    ]
    assert differing(wanted[1], present["old"]) == {"b": ("3", "2")}


def test_the_plan_is_empty_when_no_topic_differs() -> None:
    topic = Topic("same", 4, 1, {"a": "1"})
    assert plan([topic], {"same": topic}) == []


def test_a_changed_partition_count_is_rejected_in_one_line() -> None:
    wanted = [Topic("one", 48, 1), Topic("two", 48, 1), Topic("new", 48, 1)]
    with pytest.raises(TopicsError) as refused:
        plan(wanted, {"one": Topic("one", 4, 1), "two": Topic("two", 4, 1)})
    assert str(refused.value).count("\n") == 0
    assert "one has 4 and the file says 48, two has 4 and the file says 48." in str(refused.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"cleanup.policy": "compact"}, "latest of each key"),
        ({"cleanup.policy": "delete", "retention.ms": "5400000"}, "1.5 h"),
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, "for ever"),
    ],
)
def test_retention_of_a_topic_is_described_in_words(config: dict[str, str], words: str) -> None:
    assert kept(Topic("any", 1, 1, config)) == words
