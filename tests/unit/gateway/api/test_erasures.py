"""Erasures require an admin key of the workspace, and the answer never names the erased person."""

import json

import pytest

from weir.core.registry import Source, hash_key
from weir.erasure.model import ErasedPlace, Erasure
from weir.erasure.topic import Erasures, erasure_entries
from weir.gateway.api.erasures import administered, erasure_json
from weir.gateway.http.error_codes import Problem

SOURCES = [
    Source(
        id="shop",
        workspace="w1",
        write_key_hashes=(hash_key("write"),),
        read_key_hashes=(hash_key("read"),),
        admin_key_hashes=(hash_key("admin"), hash_key("both")),
    ),
    Source(id="app", workspace="w2", admin_key_hashes=(hash_key("both"),)),
    Source(id="off", workspace="w3", enabled=False, admin_key_hashes=(hash_key("off"),)),
]


@pytest.mark.parametrize(
    ("key", "wanted", "scope"),
    [
        ("admin", "", {"w1"}),
        ("both", "", {"w1", "w2"}),
        ("both", "app", {"w2"}),
        ("admin", "app", "forbidden"),
        ("read", "", "forbidden"),
        ("write", "shop", "forbidden"),
        ("off", "", "unauthorized"),
        ("", "", "unauthorized"),
    ],
)
def test_erasure_requires_an_admin_key_of_the_workspace(
    key: str, wanted: str, scope: set[str] | str
) -> None:
    found = administered(key, wanted, SOURCES)
    assert (found.code if isinstance(found, Problem) else found) == scope


def test_erasure_answer_contains_no_identifier_of_the_person() -> None:
    erasure = Erasure(
        "id",
        "w1",
        "user:ada",
        1,
        state="counted",
        names=["u:ada", "a:x-of-ada"],
        profiles=["p-of-ada"],
        places=[ErasedPlace("table events", 3, 9)],
    )
    answer = json.loads(erasure_json(erasure))
    assert "ada" not in str(answer)
    assert answer["places"] == [{"place": "table events", "rows": 3, "gone_by": 9}]
    assert answer["finished_at"] is None


def test_a_pending_erasure_is_found_by_subject_until_it_is_finished() -> None:
    erasures = Erasures()
    one = Erasure("id", "w1", "user:ada", 1)
    erasures.apply(erasure_entries(one))
    assert erasures.pending_of("w1", "user:ada") == one
    assert erasures.pending_of("w2", "user:ada") is None
    erasures.apply(erasure_entries(one.finished(2, "hash")))
    assert erasures.pending_of("w1", "user:ada") is None
    assert erasures.by_id["id"].subject == ""
