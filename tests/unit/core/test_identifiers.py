"""Profile ids: nobody can compute them from outside, and the installation knows its own again."""

import uuid

from weir.core.identifiers import ProfileIds, minted_profile_id

IDS = ProfileIds(b"one salt", legacy=False)


def test_a_minted_id_is_a_uuid_of_the_kind_that_is_free_to_use() -> None:
    minted = uuid.UUID(IDS.mint("acme", "u:ada"))
    assert (minted.version, minted.variant) == (8, uuid.RFC_4122)


def test_the_same_salt_mints_the_same_id_and_another_one_another() -> None:
    again, other = ProfileIds(b"one salt", legacy=True), ProfileIds(b"another salt")
    assert IDS.mint("acme", "u:ada") == again.mint("acme", "u:ada")
    assert IDS.mint("acme", "u:ada") != other.mint("acme", "u:ada")
    assert IDS.mint("acme", "u:ada") != IDS.mint("shop", "u:ada")
    assert IDS.mint("acme", "u:ada") != minted_profile_id("acme", "u:ada")


def test_its_own_ids_are_known_again_with_whose_they_are() -> None:
    assert IDS.minted(IDS.mint("acme", "u:ada")) == "user"
    assert IDS.minted(IDS.mint("acme", "a:phone")) == "other"
    foreign = ProfileIds(b"another salt").mint("acme", "u:ada")
    strange = ["", "mine", foreign, str(uuid.uuid4()), minted_profile_id("acme", "u:ada")]
    strange += [IDS.mint("acme", "u:ada").upper(), "é" * 36, "x" * 14 + "8" + "x" * 21]
    assert [IDS.minted(one) for one in strange] == [""] * len(strange)


def test_ids_of_before_the_salt_are_recognised_by_their_kind_where_there_are_any() -> None:
    before = minted_profile_id("acme", "u:ada")
    assert ProfileIds(b"one salt", legacy=True).may_be_minted(before)
    assert not IDS.may_be_minted(before)
    assert IDS.may_be_minted(IDS.mint("acme", "u:ada"))


def test_without_a_salt_ids_are_as_they_were() -> None:
    assert ProfileIds().mint("acme", "u:ada") == minted_profile_id("acme", "u:ada")
    assert ProfileIds().all_of("acme", "u:ada") == (minted_profile_id("acme", "u:ada"),)
    assert len(ProfileIds(b"salt", legacy=True).all_of("acme", "u:ada")) == 2
