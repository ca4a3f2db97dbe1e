"""Identity's receipts give the outcome of an event and the profile after it, only when asked for."""

import msgspec

from tests.support.events import NOON, accepted, batch_of
from tests.unit.identity.test_stage import process, unique
from weir.adapters.receipt_records import decode_receipt
from weir.core import topics
from weir.core.batch import BatchResult, Output
from weir.core.identifiers import minted_profile_id
from weir.core.receipts import Receipt, ReceiptProfile
from weir.identity.stage import IdentityStage

MINUTE = 60_000


def asking(number: int, **fields: object) -> Output:
    return unique(accepted(number, wants_receipt=True, **fields))


def receipts(decided: BatchResult) -> list[Receipt]:
    outputs = decided.outputs.get(topics.RECEIPTS, [])
    found = [decode_receipt(output.value) for output in outputs]
    assert [receipt.event_id for receipt in found] == [output.key for output in outputs]
    return found


def profile_of(receipt: Receipt) -> ReceiptProfile:
    return msgspec.json.decode(receipt.profile, type=ReceiptProfile)


def test_an_event_without_wants_receipt_gets_no_receipt() -> None:
    assert topics.RECEIPTS not in process([unique(accepted(1, user_id="7"))]).outputs


def test_a_receipt_marks_profile_and_session_as_new_only_at_the_first_event() -> None:
    later = {"occurred_at": NOON + MINUTE}
    first, second = receipts(process([asking(1, user_id="7"), asking(2, user_id="7", **later)]))
    assert (first.step, first.outcome, first.received_at) == ("identity", "resolved", NOON)
    assert first.profile_id == second.profile_id == minted_profile_id("acme", "u:7")
    assert first.session_id == second.session_id
    assert (first.profile_new, first.session_new) == (True, True)
    assert (second.profile_new, second.session_new) == (False, False)
    assert [profile_of(receipt).events for receipt in (first, second)] == [1, 2]


def test_a_receipt_holds_the_profile_after_the_event() -> None:
    record = {"event": "$identify", "properties": '{"plan": "pro", "n": 12345678901234567890}'}
    (receipt,) = receipts(process([asking(1, user_id="7", client_session_id="s", **record)]))
    assert msgspec.json.decode(receipt.profile) == {
        "id": minted_profile_id("acme", "u:7"),
        "user_id": "7",
        "traits": {"plan": "pro", "n": 12345678901234567890},
        "events": 1,
        "sessions": 1,
        "first_seen_at": NOON,
        "last_seen_at": NOON,
        "session": {"id": "s", "started_at": NOON, "ended_at": NOON},
    }


def test_a_receipt_marks_a_session_after_the_gap_as_new() -> None:
    later = asking(2, user_id="7", occurred_at=NOON + 31 * MINUTE)
    first, second = receipts(process([asking(1, user_id="7"), later]))
    assert (second.profile_new, second.session_new) == (False, True)
    assert first.session_id != second.session_id


def test_receipts_of_unsaved_and_profile_less_events_say_so() -> None:
    nobody = {"wants_profile": False, "client_session_id": "s"}
    unsaved, profile_less = receipts(
        process([asking(1, user_id="7", saved=False), asking(2, **nobody)])
    )
    assert unsaved.outcome == "unsaved"
    assert profile_of(unsaved).events == 1
    assert (profile_less.outcome, profile_less.session_id) == ("resolved", "s")
    assert (profile_less.profile_id, profile_less.profile) == ("", "")


def test_a_forwarded_event_gets_its_receipt_where_it_is_resolved() -> None:
    stage = IdentityStage()
    mine = {"client_profile_id": "mine"}
    sent = [unique(accepted(1, user_id="7", **mine)), asking(2, user_id="8", **mine)]
    decided = stage.process(batch_of(sent, topics.UNIQUE), lambda keys: {})
    assert receipts(decided) == []
    forwarded = next(out for out in decided.outputs[topics.UNIQUE] if out.value == sent[1].value)
    (receipt,) = receipts(process([forwarded]))
    assert receipt.profile_id == minted_profile_id("acme", "u:8")
    assert profile_of(receipt).user_id == "8"


def test_a_dead_event_gets_a_receipt_if_its_id_can_be_read() -> None:
    bad_traits = asking(1, user_id="7", event="$identify", properties="[]")
    decided = process([bad_traits, Output(b"k", b"garbage")])
    assert [receipt.outcome for receipt in receipts(decided)] == ["dead"]
    assert len(decided.refusals) == 2
