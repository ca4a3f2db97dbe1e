"""The sources file is checked whole: every fault is reported at once and no plain key is shown."""

import re
from pathlib import Path
from typing import Any

import pytest

from weir.core.registry import IdMapping, Quota, Source, hash_key
from weir.core.resource_paths import DEPLOY
from weir.registry.sources_file import SourcesFileError, check_document, read_sources

SECRET = "a-key-that-nobody-may-see"


def faults_of(sources: dict[Any, Any]) -> list[str]:
    with pytest.raises(SourcesFileError) as error:
        check_document({"sources": sources})
    return list(error.value.faults)


def test_the_demo_source_has_the_tours_write_key_and_settings() -> None:
    demo = read_sources(DEPLOY / "sources.yaml")["demo"]
    assert demo.write_key_hashes == (hash_key("demo-write-key"),)
    assert (demo.kind, demo.workspace, demo.allowed_origins) == ("server", "demo", ("*",))


def test_the_commented_example_source_shows_every_option_with_valid_values(tmp_path: Path) -> None:
    text = (DEPLOY / "sources.yaml").read_text()
    shop = text[text.index("  # shop:") :]
    path = tmp_path / "sources.yaml"
    shown = re.sub(r"(quotas|mappings): \[\]", r"\1:", shop)
    path.write_text("sources:\n" + re.sub(r"(?m)^  # ?", "  ", shown))
    source = read_sources(path)["shop"]
    assert source.quotas[0].name == "monthly-plan"
    assert source.mappings[0].user_id == "customer.id"
    assert source == Source(id="shop", quotas=source.quotas, mappings=source.mappings)
    for option in Source.__struct_fields__:
        assert option == "id" or f"{option}:" in shop


def test_write_keys_are_hashed_and_added_to_write_key_hashes() -> None:
    digest = hash_key("another-key")
    found = check_document(
        {"sources": {"s": {"write_keys": [SECRET, SECRET], "write_key_hashes": [digest]}}}
    )
    assert found["s"].write_key_hashes == (digest, hash_key(SECRET))


def test_write_read_and_admin_keys_are_hashed_separately() -> None:
    keys = {"read_keys": ["reader-key"], "admin_keys": ["admin-key"], "write_keys": [SECRET]}
    source = check_document({"sources": {"s": keys}})["s"]
    assert source.read_key_hashes == (hash_key("reader-key"),)
    assert source.admin_key_hashes == (hash_key("admin-key"),)
    assert source.key_hashes == tuple(map(hash_key, (SECRET, "reader-key", "admin-key")))


def test_a_key_used_for_two_purposes_or_sources_is_a_fault() -> None:
    (fault,) = faults_of({"s": {"write_keys": [SECRET], "admin_keys": [SECRET]}})
    assert fault.startswith(
        "sources.s.write_keys, read_keys and admin_keys: the same key is in two"
    )
    (fault,) = faults_of({"s": {"write_keys": [SECRET]}, "t": {"read_keys": [SECRET]}})
    assert fault == "sources.t: has a key that s has too; give it its own"


def test_a_source_without_options_has_the_defaults() -> None:
    assert check_document({"sources": {"s": None}}) == {"s": Source(id="s")}


def test_quotas_are_read_from_the_sources_file() -> None:
    quota = {"name": "plan", "period": "month", "unit": "bytes", "limit": 10, "action": "mark"}
    assert check_document({"sources": {"s": {"quotas": [quota]}}})["s"].quotas == (
        Quota(name="plan", period="month", unit="bytes", limit=10, action="mark"),
    )


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            {"kind": "phone"},
            "sources.s.kind: invalid enum value 'phone'; must be one of browser, server",
        ),
        ({"colour": 1}, "sources.s.colour: unknown; use one of admin_key_hashes, "),
        ({"id": "t"}, "sources.s.id: remove it"),
        ({"write_keys": SECRET}, "sources.s.write_keys: must be a list of keys"),
        ({"write_keys": [12345678]}, "sources.s.write_keys[0]: must be text; put it in quotes"),
        ({"write_keys": [SECRET, "short"]}, "sources.s.write_keys[1]: must have at least 8"),
        ({"write_keys": ["a key with spaces"]}, "sources.s.write_keys[0]: must have at least 8"),
        ({"write_key_hashes": [SECRET]}, "sources.s.write_key_hashes[0]: must be a SHA-256"),
        ({"allowed_origins": ["shop.example"]}, "sources.s.allowed_origins[0]: must be '*' or"),
        ({"allowed_origins": ["https://a.example/x"]}, "sources.s.allowed_origins[0]: must be"),
        ({"dedup_window_seconds": 0}, "sources.s.dedup_window_seconds: must be 1 to 604800"),
        ({"dedup_window_seconds": 604_801}, "sources.s.dedup_window_seconds: must be 1 to 604800"),
        ({"session_gap_seconds": 0}, "sources.s.session_gap_seconds: must be 1 to 86400 (a day)"),
        (
            {"session_gap_seconds": 86_401},
            "sources.s.session_gap_seconds: must be 1 to 86400 (a day)",
        ),
        ({"dedup_window_seconds": "1d"}, "sources.s.dedup_window_seconds: expected `int`"),
        (
            {"events_per_second": -1},
            "sources.s.events_per_second: must be 0 (no limit), or 0.001 to",
        ),
        ({"events_per_second": float("nan")}, "sources.s.events_per_second: must be 0 (no limit)"),
        ({"events_per_second": float("inf")}, "sources.s.events_per_second: must be 0 (no limit)"),
        ({"events_per_second": 5e-324}, "sources.s.events_per_second: must be 0 (no limit)"),
        (
            {"events_per_second": 1, "events_burst": 10**400},
            "sources.s.events_burst: must be 0 (no limit), or 0.001 to 1,000,000,000",
        ),
        (
            {"quotas": [{"name": "q", "period": "day", "limit": 1 << 70}]},
            "sources.s.quotas[0].limit: ",
        ),
        (
            {"quotas": [{"name": "q", "period": "day", "limit": 10**15 + 1}]},
            "sources.s.quotas[0].limit: must be 1 to 1,000,000,000,000,000",
        ),
        (
            {"mappings": [{"event": "*", "user_id": "a." + "9" * 300}]},
            "sources.s.mappings[0].user_id: must be a path",
        ),
        ({"events_burst": 5}, "sources.s.events_burst: has no effect without events_per_second"),
        ({"enabled": "maybe"}, "sources.s.enabled: expected `bool`, got `str`"),
        ({"workspace": "a b"}, "sources.s.workspace: must be 1 to 128"),
        ({"quotas": {}}, "sources.s.quotas: must be a list of quotas"),
        ({"quotas": ["plan"]}, "sources.s.quotas[0]: must be a mapping with name, period"),
        ({"quotas": [{"period": "day"}]}, "sources.s.quotas[0].name: is missing"),
        ({"quotas": [{"name": "q", "period": "week", "limit": 1}]}, "sources.s.quotas[0].period:"),
        ({"quotas": [{"name": "q", "period": "day", "limit": 0}]}, "sources.s.quotas[0].limit:"),
        ({"mappings": {}}, "sources.s.mappings: must be a list of mappings"),
        ({"mappings": ["id"]}, "sources.s.mappings[0]: must be a mapping with event and"),
        ({"mappings": [{"user_id": "id"}]}, "sources.s.mappings[0].event: is missing"),
        ({"mappings": [{"event": "a b", "user_id": "id"}]}, "sources.s.mappings[0].event: must be"),
        ({"mappings": [{"event": "a"}]}, "sources.s.mappings[0]: has no id"),
        ({"mappings": [{"event": "a", "user_id": "a..b"}]}, "sources.s.mappings[0].user_id: must"),
        ({"mappings": [{"event": "a", "user_id": 7}]}, "sources.s.mappings[0].user_id: expected"),
        ({"mappings": [{"event": "a", "email": "e"}]}, "sources.s.mappings[0].email: unknown"),
        ([], "sources.s: must be a mapping of options"),
    ],
)
def test_a_fault_is_reported_with_its_place_and_without_a_key(options: Any, fault: str) -> None:
    faults = faults_of({"s": options})
    assert any(line.startswith(fault) for line in faults), faults
    assert SECRET not in "\n".join(faults)


def test_a_quota_name_given_twice_in_a_source_is_a_fault() -> None:
    quota = {"name": "q", "period": "day", "limit": 1}
    assert faults_of({"s": {"quotas": [quota, quota]}}) == [
        "sources.s.quotas[1].name: q is given twice"
    ]


def test_mappings_are_read_and_a_second_one_for_an_event_is_a_fault() -> None:
    mapping = {"event": "*", "user_id": "customer.id", "session_id": "visits.0"}
    (found,) = check_document({"sources": {"s": {"mappings": [mapping]}}})["s"].mappings
    assert found == IdMapping(event="*", user_id="customer.id", session_id="visits.0")
    assert faults_of({"s": {"mappings": [mapping, mapping]}}) == [
        "sources.s.mappings[1].event: * is given twice"
    ]


def test_all_faults_of_the_sources_file_are_reported_at_once() -> None:
    faults = faults_of(
        {
            "a": {"kind": "phone", "dedup_window_seconds": 0, "quotas": [{"limit": 0}]},
            "bad id": {},
            7: {},
            "b": {"write_keys": [SECRET]},
            "c": {"write_keys": [SECRET]},
        }
    )
    assert len(faults) == 8
    assert faults[-1] == "sources.c: has a key that b has too; give it its own"


@pytest.mark.parametrize("document", [None, [], {"source": {}}, {"sources": []}, "text"])
def test_a_document_that_is_not_a_mapping_of_sources_is_a_fault(document: object) -> None:
    with pytest.raises(SourcesFileError, match="must be a mapping of source ids"):
        check_document(document)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"sources:\n  s: {{write_keys: [{SECRET}}}\n", "line 2, column"),
        ("sources:\n  s: {}\n  s: {}\n", "line 3, column 3: not valid YAML: 's' is given twice"),
        ("sources: {s: {}}\nother: 1\n", "other: unknown"),
        ("? [1]\n: 2\n", "a key must be text"),
        ("sources: {? {a: b} : 1}\n", "a key must be text"),
        ("sources: {s: {enabled: 2024-13-45}}\n", "a date or a number cannot be read"),
        ("sources: {s: {events_per_second: 0x_}}\n", "a date or a number cannot be read"),
        (
            "sources: {s: {events_burst: " + "9" * 5_000 + "}}\n",
            "a date or a number cannot be read",
        ),
        ("sources: " + "[" * 3_000, "nested too deeply"),
    ],
)
def test_invalid_yaml_is_reported_without_quoting_the_file(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    with pytest.raises(SourcesFileError) as error:
        read_sources(path)
    assert expected in str(error.value)
    assert SECRET not in str(error.value)


def test_a_file_that_is_not_utf_8_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourcesFileError, match="not UTF-8"):
        read_sources(path)
