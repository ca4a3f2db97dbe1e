"""Identity appends its fields to the accepted record and restores its state unchanged."""

import pytest

from tests.support.events import NOON, accepted, batch_of
from weir.adapters import avro
from weir.core import topics
from weir.core.batch import BatchResult, Load, Output, id_checksum
from weir.core.identifiers import minted_profile_id, workspace_key
from weir.core.registry import SESSION_GAP_SECONDS
from weir.identity.stage import IdentityStage


def unique(record: avro.AvroRecord, at: str | None = None) -> Output:
    """The record of `events.unique` that dedup would write."""
    identity = record["identity_key"] if at is None else at
    key = workspace_key(record["workspace"], identity) if identity else record["event_id"]
    return Output(key, avro.schemas()["Accepted"].encode(record))


def process(outputs: list[Output], load: Load = lambda keys: {}) -> BatchResult:
    decided = IdentityStage().process(batch_of(outputs, topics.UNIQUE), load)
    decided.check(len(outputs), IdentityStage.writes)
    return decided


@pytest.mark.parametrize("session", ["", "s", "x" * 63, "x" * 64, "ø" * 200])
def test_a_resolved_event_is_the_accepted_event_plus_profile_and_session(session: str) -> None:
    record = accepted(1, user_id="7", client_session_id=session, properties='{"a": 1}')
    (resolved,) = process([unique(record)]).outputs[topics.RESOLVED]
    name, fields = avro.decode_any(resolved.value)
    profile_id, session_id = fields.pop("profile_id"), fields.pop("session_id")
    assert fields.pop("session_gap_seconds") == SESSION_GAP_SECONDS
    assert (name, fields) == ("Resolved", record)
    assert profile_id == minted_profile_id("acme", "u:7")
    assert resolved.key == profile_id.encode()
    assert session_id == session or not session


def test_each_source_has_its_own_session_gap() -> None:
    gaps = {"shop": 3_600, "news": 60}
    stage = IdentityStage(gap_of=lambda source: gaps[source])
    events = [
        unique(accepted(number, user_id="7", source=source, occurred_at=NOON + minutes * 60_000))
        for number, (source, minutes) in enumerate(
            [("shop", 0), ("shop", 60), ("shop", 121), ("news", 0), ("news", 1), ("news", 3)]
        )
    ]
    written = stage.process(batch_of(events, topics.UNIQUE), lambda keys: {}).outputs
    resolved = [avro.decode_any(output.value)[1] for output in written[topics.RESOLVED]]
    visits = [record["session_id"] for record in resolved]
    assert [visits.index(visit) for visit in visits] == [0, 0, 2, 3, 3, 5]
    assert [record["session_gap_seconds"] for record in resolved] == [3_600] * 3 + [60] * 3


def test_a_person_is_continued_from_the_stored_state() -> None:
    first = process([unique(accepted(1, user_id="7"))])
    again = process([unique(accepted(2, user_id="7"))], lambda keys: first.changes)
    _, person = avro.decode_any(again.changes[b"acme\0u:7"])
    assert (person["events"], person["sessions"], person["version"]) == (2, 1, 2)


def test_a_link_is_keyed_by_the_weaker_identifier() -> None:
    decided = process([unique(accepted(1, user_id="7", anonymous_id="x"))])
    (link,) = decided.outputs[topics.UNIQUE]
    assert link.key == b"acme\0a:x"
    assert process([link]).changes.keys() == {b"acme\0a:x"}


def test_a_merge_is_written_to_the_profiles_topic_beside_the_state() -> None:
    before = process([unique(accepted(1, anonymous_id="x"))])
    login = process([unique(accepted(2, user_id="7", anonymous_id="x"))])
    (link,) = login.outputs[topics.UNIQUE]
    merged = process([link], lambda keys: before.changes)
    (merge,) = merged.beside[topics.PROFILES]
    _, fields = avro.decode_any(merge.value)
    assert fields["into_profile"] == minted_profile_id("acme", "u:7")
    assert not fields["refused"]


def test_traits_of_an_identify_event_are_stored_with_their_number_notation() -> None:
    record = accepted(1, user_id="7", event="$identify", properties='{"plan": "pro", "n": 1e2}')
    _, person = avro.decode_any(process([unique(record)]).changes[b"acme\0u:7"])
    assert person["traits"] == '{"plan":"pro","n":1e2}'


def test_an_event_without_profile_and_session_leaves_no_state() -> None:
    record = accepted(1, wants_profile=False, wants_session=False)
    decided = process([unique(record)])
    assert decided.changes == {}
    assert decided.outputs[topics.RESOLVED][0].key == record["event_id"]


def test_an_unsaved_event_is_counted_and_not_stored() -> None:
    decided = process([unique(accepted(1, user_id="7", saved=False))])
    assert decided.outputs[topics.RESOLVED] == []
    assert [outcome for _, _, outcome in decided.usage.counts] == ["unsaved"]


def test_unreadable_records_are_refused_and_the_others_are_processed() -> None:
    good = unique(accepted(1, user_id="7"))
    bad_traits = unique(accepted(2, user_id="8", event="$identify", properties="[]"))
    decided = process([Output(b"k", b"garbage"), bad_traits, good])
    assert [refusal.at for refusal in decided.refusals] == [0, 1]
    assert decided.emitted == 1


def test_a_refused_event_counts_as_dead_for_its_source_and_received_minute() -> None:
    record = accepted(2, event="$identify", user_id="8", properties="[]", received_at=NOON + 70_000)
    whole = unique(record)
    cut = Output(whole.key, whole.value[: whole.value.index(b"$identify")])
    decided = process([whole, cut])
    counts = decided.usage.counts
    assert counts.keys() == {("shop", NOON + 60_000, "dead")}
    (count,) = counts.values()
    assert (count.events, count.id_checksum) == (2, 2 * id_checksum([record["event_id"]]))
    refused = {(r.source, r.received_at, r.event_id) for r in decided.refusals}
    assert refused == {("shop", NOON + 70_000, record["event_id"])}


def test_an_identify_event_truncated_in_its_traits_is_refused() -> None:
    whole = unique(accepted(1, user_id="7", event="$identify", properties='{"plan": "pro"}'))
    decided = process([Output(whole.key, whole.value[:-3])])
    assert [refusal.at for refusal in decided.refusals] == [0]
