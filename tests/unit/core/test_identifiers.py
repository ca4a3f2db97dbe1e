"""Profile ids cannot be computed without the salt, and an installation recognises its own."""

import uuid

from weir.core.identifiers import ProfileIds, minted_profile_id

IDS = ProfileIds(b"one salt", legacy=False)


def test_a_minted_profile_id_is_a_version_8_uuid() -> None:
    minted = uuid.UUID(IDS.mint("acme", "u:ada"))
    assert (minted.version, minted.variant) == (8, uuid.RFC_4122)


def test_minted_profile_ids_depend_on_salt_and_workspace() -> None:
    again, other = ProfileIds(b"one salt", legacy=True), ProfileIds(b"another salt")
    assert IDS.mint("acme", "u:ada") == again.mint("acme", "u:ada")
    assert IDS.mint("acme", "u:ada") != other.mint("acme", "u:ada")
    assert IDS.mint("acme", "u:ada") != IDS.mint("shop", "u:ada")
    assert IDS.mint("acme", "u:ada") != minted_profile_id("acme", "u:ada")


def test_an_installation_recognises_only_its_own_profile_ids_and_their_kind() -> None:
    assert IDS.minted(IDS.mint("acme", "u:ada")) == "user"
    assert IDS.minted(IDS.mint("acme", "a:phone")) == "other"
    foreign = ProfileIds(b"another salt").mint("acme", "u:ada")
    strange = ["", "mine", foreign, str(uuid.uuid4()), minted_profile_id("acme", "u:ada")]
    strange += [IDS.mint("acme", "u:ada").upper(), "é" * 36, "x" * 14 + "8" + "x" * 21]
    assert [IDS.minted(one) for one in strange] == [""] * len(strange)


def test_unsalted_profile_ids_are_recognised_only_with_the_legacy_flag() -> None:
    before = minted_profile_id("acme", "u:ada")
    assert ProfileIds(b"one salt", legacy=True).may_be_minted(before)
    assert not IDS.may_be_minted(before)
    assert IDS.may_be_minted(IDS.mint("acme", "u:ada"))


def test_profile_ids_without_a_salt_equal_the_unsalted_ids() -> None:
    assert ProfileIds().mint("acme", "u:ada") == minted_profile_id("acme", "u:ada")
    assert ProfileIds().all_of("acme", "u:ada") == (minted_profile_id("acme", "u:ada"),)
    assert len(ProfileIds(b"salt", legacy=True).all_of("acme", "u:ada")) == 2
