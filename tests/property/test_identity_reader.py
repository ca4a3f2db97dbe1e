"""Identity's fast reader and writer agree with the schemas, for every record and every person."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import accepted
from tests.support.profiles import examples
from weir.adapters import avro
from weir.core.batch import Output
from weir.core.identifiers import PUBLIC_MARK, workspace_key
from weir.core.registry import SESSION_GAP_SECONDS
from weir.identity.messages import IDENTIFY, IdentityEvent, Item
from weir.identity.person import DeviceClaim, Memory, Person, RecentSession, Stamp
from weir.identity.reader import ItemReader
from weir.identity.snapshot import decode_person, encode_person

TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=80)
LONG_TEXTS = st.sampled_from([64, 127, 128, 8_191, 8_192, 9_000]).map("x".__mul__)
NAMES = st.sampled_from(["", "u", "visitor", "x" * 63, "x" * 64, "ø" * 32]) | TEXTS | LONG_TEXTS
LONGS = st.integers(-(2**63), 2**63 - 1)
TIMES = LONGS | st.integers(-(2**45), 2**45) | st.integers(1_700_000_000_000, 1_900_000_000_000)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "received_at": TIMES,
            "occurred_at": TIMES,
            "source": st.sampled_from(["shop", "blog", "", "ø" * 40]),
            "workspace": st.sampled_from(["acme", "", "w" * 70]),
            "dedup_window_seconds": st.sampled_from([0, 63, 64, 86_400, 2**31 - 1]),
            "idempotency_key": NAMES,
            "event": st.sampled_from(["view", IDENTIFY]) | NAMES,
            "user_id": NAMES,
            "anonymous_id": NAMES,
            "client_profile_id": NAMES,
            "client_session_id": NAMES,
            "wants_profile": st.booleans(),
            "wants_session": st.booleans(),
            "saved": st.booleans(),
            "wants_receipt": st.booleans(),
            "properties": st.sampled_from(["{}", '{"plan": "pro"}']),
            "public": st.booleans(),
        }
    ),
    min_size=1,
    max_size=6,
)


def unique(record: avro.AvroRecord) -> Output:
    identity = record["identity_key"].removeprefix(PUBLIC_MARK)
    key = workspace_key(record["workspace"], identity) if identity else record["event_id"]
    return Output(key, avro.schemas()["Accepted"].encode(record))


def sent_as(number: int, fields: dict[str, object]) -> avro.AvroRecord:
    record = accepted(number, **{k: v for k, v in fields.items() if k != "public"})
    return {**record, "identity_key": PUBLIC_MARK * bool(fields["public"]) + record["identity_key"]}


def read_or_fault(reader: ItemReader, output: Output) -> Item | type[Exception]:
    try:
        return reader.read(output.key, output.value)
    except (avro.UnknownSchemaError, avro.UnreadableError, msgspec.DecodeError) as fault:
        return type(fault)  # its text may name a buffer by its address


@examples(200)
@given(EVENTS)
def test_the_fast_reader_returns_the_fields_of_every_unique_event(
    sent: list[dict[str, object]],
) -> None:
    reader = ItemReader()
    for number, fields in enumerate(sent):
        record = sent_as(number, fields)
        output = unique(record)
        for _ in ("perhaps learning", "learned"):
            event = reader.read(output.key, output.value)
            assert isinstance(event, IdentityEvent)
            rest = msgspec.structs.asdict(event)
            assert rest.pop("at") == record["identity_key"].removeprefix(PUBLIC_MARK)
            assert rest.pop("public") == fields["public"]
            assert rest.pop("name") == record["event"]
            assert rest.pop("mapped_to") == ""
            assert rest.pop("session_gap_seconds") == SESSION_GAP_SECONDS
            traits = msgspec.json.encode(rest.pop("traits"))
            identify = record["event"] == IDENTIFY
            assert msgspec.json.decode(traits) == (
                msgspec.json.decode(record["properties"]) if identify else {}
            )
            assert rest == {field: record[field] for field in rest}


@examples(200)
@given(EVENTS, st.data())
def test_an_experienced_and_a_new_reader_agree_on_truncated_records(
    sent: list[dict[str, object]], data: st.DataObject
) -> None:
    experienced = ItemReader()
    for number, fields in enumerate(sent):
        output = unique(sent_as(number, fields))
        experienced.read(output.key, output.value)
        size = data.draw(st.integers(0, len(output.value)) | st.integers(0, 200))
        cut = Output(output.key, output.value[:size])
        assert read_or_fault(experienced, cut) == read_or_fault(ItemReader(), cut)


SESSIONS = st.builds(RecentSession, TEXTS, TEXTS, TIMES, TIMES, st.booleans())
PEOPLE = st.builds(
    Person,
    *(NAMES, NAMES, NAMES, NAMES),
    *(TIMES, TIMES, LONGS, LONGS),
    st.just("{}") | LONG_TEXTS,
    *(TIMES, LONGS),
    st.builds(
        Memory,
        st.lists(TEXTS, max_size=4),
        st.lists(SESSIONS, max_size=4),
        linked_at=st.lists(LONGS, max_size=4),
        claim=st.none()
        | st.builds(DeviceClaim, TEXTS, TEXTS, LONGS, LONGS, st.binary(max_size=16)),
        seen_first=st.integers(0, 2),
        stamps=st.lists(st.builds(Stamp, LONGS, st.binary(max_size=16)), max_size=3),
        trait_stamps=st.lists(st.integers(0, 9), max_size=3),
    ),
)


@examples(200)
@given(PEOPLE)
def test_a_person_is_encoded_as_the_schema_encodes_it_and_decodes_unchanged(person: Person) -> None:
    record = msgspec.structs.asdict(person)
    record["memory"] = msgspec.msgpack.encode(person.memory)
    memory = person.memory
    times = [f"{at + 2**63:016x}{event_id.hex()}" for at, event_id in memory.stamps]
    record["stamps"] = times if memory.trait_stamps else []
    record["trait_stamps"] = memory.trait_stamps
    assert encode_person(person) == avro.schemas()["Profile"].encode(record)
    assert decode_person(encode_person(person)) == person
