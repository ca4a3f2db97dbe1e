"""Changelogs decode to the state changes that were encoded."""

from weir.runtime.changelog import PACKED_ENTRIES, KeyedChangelog, PackedChangelog


def test_a_packed_changelog_decodes_to_the_encoded_changes() -> None:
    changes = {str(n).encode(): bytes(n % 300) for n in range(PACKED_ENTRIES + 7)}
    changelog = PackedChangelog("t")
    outputs = changelog.encode(changes)
    assert len(outputs) == 2
    back = [changelog.decode(output.key, output.value) for output in outputs]
    assert {**back[0], **back[1]} == changes


def test_a_keyed_changelog_decodes_its_entries_and_ignores_other_records() -> None:
    header = b"0123456789"
    changelog = KeyedChangelog("t", lambda value: value.startswith(header))
    (output,) = changelog.encode({b"k": header + b"state"})
    assert changelog.decode(output.key, output.value) == {b"k": header + b"state"}
    assert changelog.decode(b"m", b"a merge, say") == {}
    assert changelog.decode(b"k", None) == {b"k": None}
