"""A redelivery plan writes a dead or rejected event again, unchanged or edited, or says why not."""

import uuid
from zlib import crc32

import pytest
import uuid_utils

from tests.support.events import NOON, accepted, accepted_output
from tests.support.records import duplicate, resolved
from weir.adapters import avro
from weir.core import topics
from weir.core.identifiers import dedup_key, workspace_key
from weir.core.registry import Source
from weir.redelivery import dead_letters, rejected_events
from weir.redelivery.dead_letters import DeadLetter
from weir.redelivery.edits import assignment, removal
from weir.redelivery.model import RejectedLetter, Write
from weir.redelivery.plans import NotSendable, Plan, RejectedAgain

PARTITIONS = {topics.ACCEPTED: 48}
EVENT = accepted(1, user_id="ada", properties='{"price": 1.10, "n": 1}')
KEY, VALUE = accepted_output(EVENT)


def letter(
    topic: str = topics.ACCEPTED, value: bytes = VALUE, step: str = "", key: bytes = KEY
) -> DeadLetter:
    return DeadLetter(topic, 3, 1204, step, "shop", NOON, EVENT["event_id"], key, value)


def planned(found: DeadLetter, *sets: str, unset: tuple[str, ...] = ()) -> Plan | NotSendable:
    edits = [assignment(text) for text in sets] + [removal(text) for text in unset]
    return dead_letters.plan(found, edits, PARTITIONS)


def written(found: DeadLetter, *sets: str, unset: tuple[str, ...] = ()) -> Write:
    plan = planned(found, *sets, unset=unset)
    assert isinstance(plan, Plan), plan
    ((write, _),) = plan.parts
    return write


def record(write: Write) -> avro.AvroRecord:
    return avro.decode_any(write.value)[1]


@pytest.mark.parametrize("topic", sorted(dead_letters.AGAIN))
def test_an_unedited_dead_letter_is_written_to_its_original_topic_and_partition(topic: str) -> None:
    assert written(letter(topic)) == Write(topic, 3, KEY, VALUE)
    assert written(letter(topic, b"garbage")) == Write(topic, 3, KEY, b"garbage")


@pytest.mark.parametrize("topic", [topics.USAGE, topics.PROFILES, topics.QUOTAS])
def test_dead_letters_of_state_topics_are_not_sendable(topic: str) -> None:
    found = planned(letter(topic, step="sink"))
    assert isinstance(found, NotSendable)
    assert f"{topic} is not written again" in found.reason


def test_an_edit_changes_only_the_named_fields() -> None:
    write = written(letter(), "properties.price=12.50", "value=3", "event=paid twice")
    assert record(write) == EVENT | {
        "properties": '{"price":12.50,"n":1}',
        "value": 3.0,
        "event": "paid twice",
    }
    assert (write.key, write.partition) == (KEY, crc32(KEY) % 48)


def test_an_edited_idempotency_key_determines_key_and_partition() -> None:
    write = written(letter(), "idempotency_key=order-17")
    assert write.key == dedup_key("shop", "order-17")
    assert write.partition == crc32(write.key) % 48
    assert record(write)["event_id"] == EVENT["event_id"]


def test_an_edited_user_id_determines_the_key_of_a_unique_event() -> None:
    write = written(letter(topics.UNIQUE, key=b"acme\0u:ada"), "user_id=bob")
    assert (write.key, write.partition) == (workspace_key("acme", "u:bob"), None)
    assert record(write)["identity_key"] == "u:bob"
    nobody = written(letter(topics.UNIQUE, key=b"acme\0u:ada"), unset=("user_id",))
    assert (nobody.key, nobody.partition) == (EVENT["event_id"], None)


def test_an_edited_event_that_was_forwarded_keeps_its_key_and_partition() -> None:
    write = written(letter(topics.UNIQUE, key=b"acme\0u:carol"), "value=1")
    assert (write.key, write.partition) == (b"acme\0u:carol", 3)


@pytest.mark.parametrize(
    ("topic", "value", "edit", "expected"),
    [
        (topics.ACCEPTED, VALUE[:40], "value=1", "its bytes cannot be read"),
        (topics.ACCEPTED, b"garbage", "value=1", "its bytes cannot be read"),
        (topics.DUPLICATE, duplicate(), "source=x", "only events can be edited"),
        (topics.ACCEPTED, VALUE, "source=x", "source is already decided"),
        (topics.ACCEPTED, VALUE, "event_id=x", "event_id is already decided"),
        (topics.UNIQUE, VALUE, "idempotency_key=x", "idempotency_key is already decided"),
        (topics.RESOLVED, resolved(1, "p"), "user_id=x", "user_id is already decided"),
        (topics.ACCEPTED, VALUE, "price=1", "there is no price"),
        (topics.ACCEPTED, VALUE, "properties.a.b=1", "there is no properties.a"),
        (topics.ACCEPTED, VALUE, "user_id.a=1", "there is no user_id.a"),
        (topics.ACCEPTED, VALUE, "value=much", "value must be a number, not much"),
        (topics.ACCEPTED, VALUE, "properties=[1]", "properties must be a JSON object"),
    ],
)
def test_an_impossible_edit_is_not_sendable_with_a_reason(
    topic: str, value: bytes, edit: str, expected: str
) -> None:
    found = planned(letter(topic, value), edit)
    assert isinstance(found, NotSendable)
    assert expected in found.reason


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (f"user_id={'x' * 256}", "too_long"),
        ("event=$mine", "reserved_name"),
        ("properties.note=" + "[" * 40 + "]" * 40, "too_deep"),
    ],
)
def test_an_edited_event_is_validated_as_at_the_gateway(edit: str, code: str) -> None:
    found = planned(letter(), edit)
    assert isinstance(found, NotSendable)
    assert [one.code for one in found.refused] == [code]


def test_unedited_fields_of_an_edited_event_are_validated_too() -> None:
    _, value = accepted_output(accepted(1, properties='{"price": 1e999}'))
    found = planned(letter(value=value), "value=1")
    assert isinstance(found, NotSendable)
    assert found.refused[0].code == "out_of_range"


def test_an_event_name_that_its_api_accepted_passes_an_edit_of_another_field() -> None:
    _, value = accepted_output(accepted(1, event="$exposure"))
    assert record(written(letter(value=value), "value=1"))["event"] == "$exposure"


# --- refusals

SHOP = Source(id="shop", workspace="acme")
ID = uuid_utils.uuid7()


def refused(payload: bytes, door: str = "events", source: str = "shop") -> RejectedLetter:
    return RejectedLetter(ID.bytes, source, NOON, door, "127.0.0.1", "curl", payload)


def again(found: RejectedLetter, *sets: str, door: str | None = None) -> Plan | NotSendable:
    edits = [assignment(text) for text in sets]
    return rejected_events.plan(found, edits, door, {"shop": SHOP}, PARTITIONS)


def events(plan: Plan | NotSendable) -> list[avro.AvroRecord]:
    assert isinstance(plan, Plan), plan
    for write, _ in plan.parts:
        assert (write.topic, write.partition) == (topics.ACCEPTED, crc32(write.key) % 48)
    return [record(write) for write, _ in plan.parts]


def test_a_corrected_rejected_event_keeps_its_event_id_and_received_at() -> None:
    (event,) = events(again(refused(b'{"event": "paid", "value": "12", "id": "k"}'), "value=12"))
    assert (event["event_id"], event["received_at"], event["occurred_at"]) == (ID.bytes, NOON, NOON)
    assert (event["value"], event["idempotency_key"]) == (12.0, "k")
    assert (event["source"], event["workspace"], event["user_agent"]) == ("shop", "acme", "curl")


def test_an_event_rejected_again_is_not_sendable_with_a_reason() -> None:
    found = again(refused(b'{"event": "paid", "value": "12"}'))
    refusal = RejectedAgain("wrong_type", "value", "must be a finite number")
    assert found == NotSendable("rejected again", (refusal,))
    body = again(refused(b'{"event":'))
    assert isinstance(body, NotSendable)
    assert body.refused[0].code == "invalid_json"


def test_a_rejected_body_of_several_events_is_sent_whole_or_not_at_all() -> None:
    first, second = events(again(refused(b'[{"event": "a"}, {"event": "b"}]')))
    assert first["event_id"] == ID.bytes != second["event_id"]
    found = again(refused(b'[{"event": "a"}, {"event": "not b"}]'))
    assert isinstance(found, NotSendable)
    assert [one.code for one in found.refused] == ["invalid_name"]


def test_events_of_a_rejected_body_get_the_same_ids_at_every_plan() -> None:
    body = refused(b'[{"event": "a"}, {"event": "b"}, {"event": "c", "id": "k"}]')
    plan = again(body)
    assert plan == again(body)
    assert isinstance(plan, Plan)
    ids = [uuid.UUID(bytes=event["event_id"]) for event in events(plan)]
    assert len(set(ids)) == 3
    assert {one.version for one in ids} == {7}
    assert {one.variant for one in ids} == {uuid.RFC_4122}
    assert [(i.event_id, i.idempotency_key) for i in plan.identities] == [
        (ids[0], str(ids[0])),
        (ids[1], str(ids[1])),
        (ids[2], "k"),
    ]


@pytest.mark.parametrize(
    ("door", "payload", "name"),
    [
        ("segment", b'{"type": "track", "event": "Paid", "userId": "ada"}', "Paid"),
        ("segment", b'{"batch": [{"type": "page", "userId": "ada"}]}', "page_view"),
        (
            "cloudevents",
            b'{"specversion": "1.0", "id": "1", "source": "/a", "type": "paid", "data": {}}',
            "paid",
        ),
    ],
)
def test_a_rejected_payload_is_parsed_by_the_api_it_came_from(
    door: str, payload: bytes, name: str
) -> None:
    (event,) = events(again(refused(payload, door)))
    assert (event["event"], event["door"], event["event_id"]) == (name, door, ID.bytes)


@pytest.mark.parametrize("door", ["collect", "hackle", "tracardi", "cloudevents", "unheard-of"])
def test_a_payload_its_api_cannot_parse_alone_can_be_read_as_weirs_own_format(door: str) -> None:
    found = again(refused(b'{"type": "paid"}', door))
    assert isinstance(found, NotSendable)
    assert "--door events" in found.reason
    (event,) = events(again(refused(b'{"event": "paid"}', door), "user_id=ada", door="events"))
    assert (event["event"], event["user_id"], event["door"]) == ("paid", "ada", door)


def test_a_rejected_event_of_a_removed_source_is_not_sendable() -> None:
    found = again(refused(b'{"event": "paid"}', source="gone"))
    assert found == NotSendable("the registry has no source gone")


def test_redelivery_enforces_the_sources_event_casing() -> None:
    strict = Source(id="shop", event_casing="snake_case", enforce_casing=True)
    found = rejected_events.plan(
        refused(b'{"event": "Paid"}'), [], None, {"shop": strict}, PARTITIONS
    )
    assert isinstance(found, NotSendable)
    assert found.refused[0].code == "wrong_casing"
