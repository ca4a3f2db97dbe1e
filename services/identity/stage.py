"""Identity between bytes and decisions: reads the leading fields, appends profile and session to the bytes."""

import msgspec

from services.core import reasons, topics
from services.core.identifiers import SEPARATOR, workspace_key
from services.core.step import Batch, Decided, Load, Output, Refusal
from services.edge import avro
from services.identity.person import Memory, Person
from services.identity.step import (
    IDENTIFY,
    Decisions,
    Event,
    Forward,
    Link,
    Merge,
    Resolved,
    Unsaved,
    decide,
)

Item = Event | Link

_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_encode_memory = msgspec.msgpack.Encoder().encode


class IdentityStage:
    """`services.core.step.Step`: events with profile and session to `events.resolved`."""

    name = "identity"

    def __init__(self) -> None:
        self._schemas = avro.schemas()
        self._events = avro.PrefixReader("Accepted", "saved")
        self._links = avro.PrefixReader("Link", "event_id")

    def process(self, batch: Batch, load: Load) -> Decided:
        decided = Decided()
        indexes, items = self._read(batch, decided)
        known = load({batch.keys[index] for index in indexes})
        people = {
            _place(key): _person_of(self._schemas["Profile"].decode(value))
            for key, value in known.items()
        }
        versions = {place: person.version for place, person in people.items()}
        decisions = decide(items, people)
        self._write_events(batch, indexes, items, decisions, decided)
        self._write_beside(decisions, decided)
        decided.changes = {
            workspace_key(*place): self._schemas["Profile"].encode(_record_of(person))
            for place, person in people.items()
            if versions.get(place) != person.version and person.version
        }
        return decided

    def refresh(self, partition: int, load: Load) -> Decided | None:
        return None

    def forget(self) -> None:
        pass

    def _read(self, batch: Batch, decided: Decided) -> tuple[list[int], list[Item]]:
        indexes: list[int] = []
        items: list[Item] = []
        for index, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            try:
                item = self._read_one(key, value)
            except (avro.UnknownSchemaError, avro.UnreadableError, msgspec.DecodeError) as fault:
                received_at = max(0, batch.timestamps[index])
                decided.refusals.append(
                    Refusal(index, reasons.UNREADABLE, str(fault), "", received_at)
                )
                decided.usage.add("", received_at, "dead", 1, len(value))
                continue
            indexes.append(index)
            items.append(item)
        return indexes, items

    def _read_one(self, key: bytes, value: bytes) -> Item:
        if self._links.reads(value):
            link = self._links.read(value)
            return Link(
                link["identity_key"],
                link["workspace"],
                link["profile_id"],
                link["owner"],
                link["source"],
                link["received_at"],
                link["event_id"],
            )
        record = self._events.read(value)
        event = Event(
            # the key, not the field, says who decides: a forwarded event has another key
            key.partition(b"\0")[2].decode() if record["identity_key"] else "",
            record["event_id"],
            record["workspace"],
            record["source"],
            record["event"],
            record["occurred_at"],
            record["received_at"],
            record["user_id"],
            record["anonymous_id"],
            record["client_profile_id"],
            record["client_session_id"],
            record["wants_profile"],
            record["wants_session"],
            record["saved"],
        )
        if event.name == IDENTIFY:
            _, whole = avro.decode_any(value)
            event.traits = msgspec.json.decode(whole["properties"], type=dict[str, msgspec.Raw])
        return event

    def _write_events(
        self,
        batch: Batch,
        indexes: list[int],
        items: list[Item],
        decisions: Decisions,
        decided: Decided,
    ) -> None:
        header, usage = self._schemas["Resolved"].header, decided.usage
        resolved: list[Output] = []
        forwarded: list[Output] = []
        for index, item, outcome in zip(indexes, items, decisions.outcomes, strict=True):
            if isinstance(item, Link):
                continue
            value = batch.values[index]
            if isinstance(outcome, Resolved):
                profile, session = outcome.profile_id.encode(), outcome.session_id.encode()
                suffix = (
                    avro.string_length(profile),
                    profile,
                    avro.string_length(session),
                    session,
                )
                longer = b"".join((header, value[avro.HEADER_BYTES :], *suffix))
                resolved.append(Output(profile or session or item.event_id, longer))
                usage.add(item.source, item.received_at, "resolved", 1, len(value))
            elif isinstance(outcome, Unsaved):
                usage.add(item.source, item.received_at, "unsaved", 1, len(value))
            elif isinstance(outcome, Forward):
                key = workspace_key(item.workspace, outcome.at)
                forwarded.append(Output(key, value))
        decided.outputs[topics.RESOLVED] = resolved
        decided.outputs[topics.UNIQUE] = forwarded
        decided.emitted = len(resolved)
        decided.forwarded = len(forwarded)
        decided.dropped = len(items) - len(resolved) - len(forwarded)

    def _write_beside(self, decisions: Decisions, decided: Decided) -> None:
        for link in decisions.links:
            record = msgspec.structs.asdict(link)
            record["identity_key"] = record.pop("at")
            output = Output(
                workspace_key(link.workspace, link.at),
                self._schemas["Link"].encode(record),
            )
            decided.outputs[topics.UNIQUE].append(output)
        if decisions.merges:
            decided.beside[topics.PROFILES] = [self._merge_output(m) for m in decisions.merges]

    def _merge_output(self, merge: Merge) -> Output:
        parts = (merge.workspace, "merge", merge.from_profile, merge.into_profile)
        record = msgspec.structs.asdict(merge)
        return Output(SEPARATOR.join(parts).encode(), self._schemas["Merge"].encode(record))


def _place(key: bytes) -> tuple[str, str]:
    workspace, _, identity = key.decode().partition(SEPARATOR)
    return workspace, identity


def _person_of(record: avro.Record) -> Person:
    record["memory"] = _decode_memory(record["memory"])
    return Person(**record)


def _record_of(person: Person) -> avro.Record:
    record = msgspec.structs.asdict(person)
    record["memory"] = _encode_memory(person.memory)
    return record
