"""The erase filter recognises an erased person's records in the topics by digests."""

import uuid

import pytest

from tests.support.events import NOON, accepted
from weir.adapters import avro
from weir.erasure.erase_filter import is_barred
from weir.erasure.model import ErasedPerson, EraseFilter, Erasure
from weir.erasure.topic import erasure_entries, read_erasure

REFUSAL = uuid.UUID(int=7)
ADA = ErasedPerson.of("acme", "profile:p").with_ties(
    [("u:ada", "p", "u:ada"), ("a:x", "p", "u:ada")], ()
)
DIGESTS = EraseFilter.digests(ADA, [str(REFUSAL), "events.unique/2/9/identity"])


def barred() -> EraseFilter:
    erasure = Erasure("id", "acme", "", NOON, until=NOON, barred=DIGESTS)
    return EraseFilter([read_erasure(erasure_entries(erasure)[0][1])])


def resolved(**fields: object) -> tuple[str, avro.AvroRecord]:
    return "Resolved", accepted(1, **fields) | {"profile_id": fields.get("profile_id", "")}


def merge(into: str) -> tuple[str, avro.AvroRecord]:
    return "Merge", {
        "workspace": "acme",
        "from_profile": "q",
        "into_profile": into,
        "merged_at": NOON,
    }


def profile(name: str, version: int) -> tuple[str, avro.AvroRecord]:
    return "Profile", {"workspace": "acme", "identity_key": name, "version": version}


def letter(offset: int) -> tuple[str, avro.AvroRecord]:
    place = {"origin_topic": "events.unique", "origin_partition": 2, "origin_offset": offset}
    return "DeadLetter", place | {"step": "identity"}


@pytest.mark.parametrize(
    "record",
    [
        resolved(user_id="ada"),
        resolved(profile_id="p"),
        resolved(anonymous_id="x"),
        profile("a:x", 3),
        merge("p"),
        ("Rejected", {"event_id": REFUSAL.bytes}),
        letter(9),
    ],
)
def test_records_of_an_erased_person_are_barred(record: tuple[str, avro.AvroRecord]) -> None:
    assert is_barred(barred(), *record)
    assert not is_barred(EraseFilter([]), *record)


@pytest.mark.parametrize(
    "record",
    [
        resolved(user_id="bob"),
        resolved(user_id="bob", profile_id="q", anonymous_id="x"),  # on their device
        resolved(user_id="ada", workspace="other"),
        resolved(user_id="ada", received_at=NOON + 1),  # somebody new
        profile("a:x", NOON + 1),
        merge("r"),
        ("Rejected", {"event_id": uuid.UUID(int=8).bytes}),
        letter(10),
        ("UsageDelta", {}),
    ],
)
def test_records_of_other_people_or_of_later_times_are_not_barred(
    record: tuple[str, avro.AvroRecord],
) -> None:
    assert not is_barred(barred(), *record)
