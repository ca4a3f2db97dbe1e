"""Encode and decode a person's state as a `Profile` record, for the changelog and for analysts."""

import msgspec

from weir.adapters import avro
from weir.core.stages import IDENTITY
from weir.identity.person import Memory, Person
from weir.runtime.changelog import KeyedChangelog

SIGN = 1 << 63  # added to a time, so that negative ones sort first as hex digits

_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_encode_memory = msgspec.msgpack.Encoder().encode


def people_changelog() -> KeyedChangelog:
    """Return the changelog of people in the topic `profiles`, which also holds merges."""
    return KeyedChangelog(IDENTITY.changelog, avro.is_one_of("Profile", "ErasedMarkers"))


def decode_person(value: bytes) -> Person:
    _, record = avro.decode_any(value)
    del record["stamps"], record["trait_stamps"]  # for ClickHouse: the memory has them, too
    memory = record["memory"] = _decode_memory(record["memory"])
    record["version"] -= memory.versions_before
    return Person(**record)


def encode_person(person: Person) -> bytes:
    """Encode a person to the same bytes as the schema's writer, at half the cost: it runs per person and batch."""
    workspace = person.workspace.encode()
    identity_key = person.identity_key.encode()
    profile_id = person.profile_id.encode()
    owner = person.owner.encode()
    traits = person.traits.encode()
    memory = _encode_memory(person.memory)
    length, long = avro.string_length, avro.long
    return b"".join(
        (
            avro.schemas()["Profile"].header,
            length(workspace),
            workspace,
            length(identity_key),
            identity_key,
            length(profile_id),
            profile_id,
            length(owner),
            owner,
            long(person.first_seen),
            long(person.last_seen),
            long(person.events),
            long(person.sessions),
            length(traits),
            traits,
            long(person.traits_at),
            long(person.memory.versions_before + person.version),
            length(memory),
            memory,
            _trait_times(person.memory),
        )
    )


def _trait_times(memory: Memory) -> bytes:
    """Encode the fields `stamps` and `trait_stamps`."""
    if not memory.trait_stamps:
        return _array([]) * 2
    stamps = (f"{at + SIGN:016x}{event_id.hex()}".encode() for at, event_id in memory.stamps)
    return _array([avro.string_length(stamp) + stamp for stamp in stamps]) + _array(
        [avro.long(place) for place in memory.trait_stamps]
    )


def _array(items: list[bytes]) -> bytes:
    """Encode an Avro array: all items in one block, then the end."""
    return avro.long(len(items)) + b"".join(items) + b"\0" if items else b"\0"
