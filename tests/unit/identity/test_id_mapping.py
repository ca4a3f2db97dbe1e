"""An id mapping reads identifiers from an event's properties and reroutes the event to their owner."""

from collections.abc import Sequence

import pytest

from tests.support.events import accepted, batch_of
from tests.unit.identity.test_stage import unique
from weir.adapters import avro
from weir.core import topics
from weir.core.batch import BatchResult, Output
from weir.core.identifiers import minted_profile_id, workspace_key
from weir.core.registry import IdMapping
from weir.identity.id_mapping import Named, mapping_of, named_by
from weir.identity.stage import IdentityStage

PAID = IdMapping(event="paid", user_id="customer.id")
ANY = IdMapping(event="*", anonymous_id="visitor")


def webhook(number: int, properties: str, **fields: object) -> Output:
    nobody = {"wants_profile": False, "event": "paid"}
    return unique(accepted(number, properties=properties, **(nobody | fields)))


def process(mappings: Sequence[IdMapping], *sent: Output) -> BatchResult:
    stage = IdentityStage(lambda source: mappings if source == "shop" else ())
    decided = stage.process(batch_of(list(sent), topics.UNIQUE), lambda keys: {})
    decided.check(len(sent), IdentityStage.writes)
    return decided


def profile_less(decided: BatchResult) -> bool:
    _, fields = avro.decode_any(decided.outputs[topics.RESOLVED][0].value)
    return decided.forwarded == 0 and (fields["profile_id"], fields["session_id"]) == ("", "")


def test_a_mapping_for_the_event_name_wins_over_the_wildcard_mapping() -> None:
    assert mapping_of([ANY, PAID], "paid") == PAID
    assert mapping_of([ANY, PAID], "sent") == ANY
    assert mapping_of([PAID], "sent") is None


@pytest.mark.parametrize(
    ("properties", "path", "found"),
    [
        ('{"id": "7"}', "id", "7"),
        ('{"id": 7}', "id", "7"),
        ('{"id": -123456789012345678901234567890}', "id", "-123456789012345678901234567890"),
        ('{"id": "  7 "}', "id", "7"),
        ('{"a": {"b": {"id": "x"}}}', "a.b.id", "x"),
        ('{"a": [{"id": "x"}, {"id": "y"}]}', "a.1.id", "y"),
        ('{"a": {"1": "x"}}', "a.1", "x"),
        ('{"id": "x", "id": "y"}', "id", "x"),  # as ClickHouse has it
        ('{"a": {"id": "x", "id": "y"}, "n": 1e5, "n": 1}', "a.id", "x"),
    ],
)
def test_a_mapping_path_finds_a_string_or_an_integer(
    properties: str, path: str, found: str
) -> None:
    mapping = IdMapping(event="*", user_id=path)
    assert named_by(mapping, properties) == Named("", found, "", "")


@pytest.mark.parametrize(
    "properties",
    [
        "{}",
        '{"id": null}',
        '{"id": true}',
        '{"id": 1.5}',
        '{"id": ["x"]}',
        '{"id": {"id": "x"}}',
        '{"id": ""}',
        '{"id": "   "}',
        '{"id": "a\\u0000b"}',
        '{"id": "' + 256 * "x" + '"}',
        '{"id": "x", "odd": "\\ud800"}',
    ],
)
def test_any_other_value_at_the_path_leaves_the_event_without_a_profile(properties: str) -> None:
    mapping = IdMapping(event="*", user_id="id", anonymous_id="no.such.0.thing")
    assert named_by(mapping, properties) is None
    assert profile_less(process([mapping], webhook(1, properties)))


@pytest.mark.parametrize("path", ["a.2", "a.-1", "a.x", "a.²", "a." + "9" * 5_000])
def test_a_path_to_a_missing_array_index_finds_nothing(path: str) -> None:
    assert named_by(IdMapping(event="*", user_id=path), '{"a": ["x", "y"]}') is None


def test_a_mapped_event_is_forwarded_as_if_sent_with_its_identifiers() -> None:
    mapping = IdMapping(event="paid", user_id="customer.id", session_id="visit")
    properties = '{"customer": {"id": 7}, "visit": "v"}'
    sent = webhook(1, properties, value=3.5)
    decided = process([mapping], sent)
    (forwarded,) = decided.outputs[topics.UNIQUE]
    assert forwarded == unique(
        accepted(
            1, properties=properties, event="paid", value=3.5, user_id="7", client_session_id="v"
        )
    )
    assert (decided.forwarded, decided.emitted, decided.changes) == (1, 0, {})
    assert decided.usage.counts == {}


def test_a_forwarded_event_is_resolved_the_same_after_mappings_have_changed() -> None:
    (forwarded,) = process([PAID], webhook(1, '{"customer": {"id": 7}}')).outputs[topics.UNIQUE]
    changed = IdMapping(event="paid", user_id="no.such.thing", anonymous_id="customer.id")
    decisions = [process(mappings, forwarded) for mappings in ([], [PAID], [changed])]
    for decided in decisions:
        _, fields = avro.decode_any(decided.outputs[topics.RESOLVED][0].value)
        assert (fields["user_id"], fields["anonymous_id"]) == ("7", "")
        assert fields["profile_id"] == minted_profile_id("acme", "u:7")
        assert fields["session_id"]
    assert decisions[0].changes == decisions[1].changes == decisions[2].changes


def test_the_clients_session_id_is_kept_when_the_mapping_finds_none() -> None:
    given = webhook(1, '{"customer": {"id": 7}}', client_session_id="given")
    (forwarded,) = process([PAID], given).outputs[topics.UNIQUE]
    _, fields = avro.decode_any(forwarded.value)
    assert (fields["client_session_id"], fields["identity_key"]) == ("given", "u:7")


def test_a_mapped_session_id_alone_identifies_a_person() -> None:
    mapping = IdMapping(event="*", session_id="visit")
    (forwarded,) = process([mapping], webhook(1, '{"visit": "v"}')).outputs[topics.UNIQUE]
    assert forwarded.key == workspace_key("acme", "s:v")


def test_mappings_ignore_events_that_want_a_profile_and_other_sources() -> None:
    properties = '{"customer": {"id": 7}}'
    asking = unique(accepted(1, user_id="8", event="paid", properties=properties))
    elsewhere = webhook(2, properties, source="blog")
    decided = process([PAID, ANY], asking, elsewhere)
    assert (decided.forwarded, decided.emitted) == (0, 2)


def test_an_event_truncated_in_its_properties_is_refused_when_a_mapping_needs_them() -> None:
    whole = webhook(1, '{"customer": {"id": 7}}')
    decided = process([PAID], Output(whole.key, whole.value[:-3]))
    assert [refusal.at for refusal in decided.refusals] == [0]
