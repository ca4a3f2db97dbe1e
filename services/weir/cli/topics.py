"""`weir topics`: create, update and list the Kafka topics that `deploy/topics.yaml` declares."""

from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import yaml
from rich.table import Table

from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.schema_announcements import SchemasTopic
from weir.cli.base import WrongInputError, screen, settings_of
from weir.cli.retrying import with_retries
from weir.core import record_limits
from weir.core.resource_paths import DEPLOY
from weir.core.topics import PROFILES, REGISTRY, SCHEMAS
from weir.registry.profile_id_salt import ensure_salt
from weir.settings.shared import KafkaSettings

TOPICS_FILE = DEPLOY / "topics.yaml"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class TopicsProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size and replication of topics. A topic can have its own partition count."""

    partitions: int
    replicas: int
    min_insync_replicas: int
    segment_bytes: int = 64 * 1024 * 1024
    compact_after_minutes: int = 10  # a compacted topic's open segment closes after this


class TopicEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One topic of the file: its records are kept for `retention_hours`, or compacted by key."""

    retention_hours: float = 168
    compacted: bool = False
    marker_seconds: float = (
        86_400  # how long a compacted topic keeps tombstones and transaction markers
    )
    partitions: int | None = None


class TopicsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    profiles: dict[str, TopicsProfile]
    topics: dict[str, TopicEntry]


class TopicsError(Exception):
    """The file cannot be applied to this cluster; the text says why, in one sentence."""


@dataclass(frozen=True)
class TopicChange:
    """One change to the cluster; `action` is `create` or `mend`."""

    action: str
    topic: str
    detail: str


def read_topics(path: Path, profile: str) -> list[Topic]:
    """Return the file's topics with the sizes of a profile. `TopicsError` if the file is not valid."""
    try:
        document = msgspec.convert(yaml.safe_load(path.read_text()), TopicsFile)
    except OSError as error:
        raise TopicsError(f"{path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise TopicsError(f"{path} is not valid YAML: {error}") from None
    except msgspec.ValidationError as error:
        raise TopicsError(f"{path}: {error}.") from None
    size = document.profiles.get(profile)
    if size is None:
        known = ", ".join(sorted(document.profiles))
        raise TopicsError(f"{path} has no profile {profile}; it has {known}.")
    return [
        Topic(name, entry.partitions or size.partitions, size.replicas, _config(name, entry, size))
        for name, entry in document.topics.items()
    ]


def _config(name: str, entry: TopicEntry, size: TopicsProfile) -> dict[str, str]:
    """Return a topic's configuration. Kafka compacts or deletes only closed segments, so they close by time too."""
    config = {
        "min.insync.replicas": str(size.min_insync_replicas),
        "segment.bytes": str(size.segment_bytes),
        "max.message.bytes": str(record_limits.topic_bytes(name)),
    }
    if entry.compacted:
        lag_ms = size.compact_after_minutes * 60_000
        return config | {
            "cleanup.policy": "compact",
            "delete.retention.ms": str(int(entry.marker_seconds * 1000)),
            "segment.ms": str(lag_ms),
            "min.cleanable.dirty.ratio": "0.2",
            "max.compaction.lag.ms": str(6 * lag_ms),
        }
    retention_ms = int(entry.retention_hours * HOUR_MS)
    return config | {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        "segment.ms": str(max(60_000, min(DAY_MS, retention_ms // 7))),
    }


def plan(wanted: list[Topic], present: dict[str, Topic]) -> list[TopicChange]:
    """Return the changes that turn `present` into `wanted`. `TopicsError` if a partition count would change."""
    refused = [
        f"{topic.name} has {present[topic.name].partitions} and the file says {topic.partitions}"
        for topic in wanted
        if topic.name in present and present[topic.name].partitions != topic.partitions
    ]
    if refused:
        raise TopicsError(
            "Partition counts never change in place, because keys would move away from their"
            f" state: {', '.join(refused)}."
        )
    changes = []
    for topic in wanted:
        if topic.name not in present:
            detail = f"{topic.partitions} partitions, {topic.replicas} replicas"
            changes.append(TopicChange("create", topic.name, detail))
            continue
        for key, (old, new) in differing(topic, present[topic.name]).items():
            changes.append(TopicChange("mend", topic.name, f"{key}: {old} -> {new}"))
    return changes


def differing(wanted: Topic, present: Topic) -> dict[str, tuple[str, str]]:
    """Return the configuration entries that differ, as name -> (present, wanted)."""
    return {
        key: (present.config.get(key, "(none)"), value)
        for key, value in wanted.config.items()
        if present.config.get(key) != value
    }


def apply_topics(
    settings: KafkaSettings, profile: str = "local", path: Path = TOPICS_FILE
) -> list[TopicChange]:
    """Make the cluster's topics match the file; return the changes.

    On return, every other version of Weir can read what this version writes, and the registry has the
    salt of this installation's profile ids. `TopicsError` is raised before anything is changed. Also
    raises `KafkaUnreachableError`, `KafkaRefusedError`, `SchemasNotReadError`.
    """
    wanted = read_topics(path, profile)
    admin = KafkaAdmin(settings)
    present = admin.topics()
    changes = plan(wanted, present)
    has_people = any(
        admin.record_counts(t for t in present.values() if t.name == PROFILES).values()
    )
    admin.create(topic for topic in wanted if topic.name not in present)
    for topic in wanted:
        if topic.name in present:
            mended = {key: new for key, (_, new) in differing(topic, present[topic.name]).items()}
            if mended:
                admin.configure(topic.name, mended)
    if any(topic.name == SCHEMAS for topic in wanted):
        SchemasTopic(settings).announce()
    if REGISTRY in {topic.name for topic in wanted} and ensure_salt(settings, has_people):
        changes.append(TopicChange("create", REGISTRY, "the salt of profile ids"))
    return changes


@click.group("topics")
def command() -> None:
    """Create, update and list the Kafka topics that Weir needs.

    \b
    Example:
      weir topics apply --profile production
      weir topics list
    """


@command.command("apply")
@click.argument("file", type=click.Path(path_type=Path), default=TOPICS_FILE, required=False)
@click.option(
    "--profile",
    default="local",
    show_default=True,
    help="A profile from the file: local, production.",
)
def apply_command(file: Path, profile: str) -> None:
    """Make the cluster's topics match FILE (deploy/topics.yaml). Safe to repeat.

    A changed partition count is refused before anything is changed.

    \b
    Example:
      weir topics apply --profile production
    """
    try:
        changes = with_retries(lambda: apply_topics(settings_of(KafkaSettings), profile, file))
    except TopicsError as error:
        raise WrongInputError(str(error)) from None
    console = screen()
    for change in changes:
        mark = "[green]+[/]" if change.action == "create" else "[yellow]~[/]"
        console.print(f"{mark} {change.topic}  {change.detail}")
    console.print(f"{len(changes)} changes." if changes else "Nothing to change.")


@command.command("list")
def list_command() -> None:
    """Show every topic: partitions, replicas, number of offsets, and retention.

    \b
    Example:
      weir topics list
    """
    topics, counts = with_retries(lambda: _listed(KafkaAdmin(settings_of(KafkaSettings))))
    table = Table(box=None, pad_edge=False)
    table.add_column("topic")
    for name in ("partitions", "replicas", "offsets"):
        table.add_column(name, justify="right")
    table.add_column("kept")
    for topic in topics:
        table.add_row(
            topic.name,
            str(topic.partitions),
            str(topic.replicas),
            f"{counts.get(topic.name, 0):,}",
            kept(topic),
        )
    screen().print(table)


def _listed(admin: KafkaAdmin) -> tuple[list[Topic], dict[str, int]]:
    topics = list(admin.topics().values())
    return topics, admin.record_counts(topics)


def kept(topic: Topic) -> str:
    """Return a topic's retention in words."""
    if "compact" in topic.config.get("cleanup.policy", ""):
        return "latest of each key"
    milliseconds = int(topic.config.get("retention.ms", "-1"))
    if milliseconds < 0:
        return "for ever"
    return f"{milliseconds / HOUR_MS:g} h"


if __name__ == "__main__":
    command()
