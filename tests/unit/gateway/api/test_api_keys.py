"""Who may use a site's API: where a key may be, and what it opens."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from weir.core.registry import Source, hash_key
from weir.gateway.api.api_keys import api_key_of, refuse_access


def headers(**given: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({k.replace("_", "-"): v for k, v in given.items()}))


@pytest.mark.parametrize(
    ("given", "query", "key"),
    [
        ({"Authorization": "Bearer k"}, "", "k"),
        ({"X_Weir_Key": "k"}, "", "k"),
        ({"X_Api_Key": " k "}, "key=other", "k"),
        ({}, "a=b&key=k", "k"),
        ({"Cookie": "a=b; hk_token=k"}, "", "k"),
        (
            {"Cookie": "hk_token=k", "Origin": "https://shop.example", "Host": "shop.example"},
            "",
            "k",
        ),
        (
            {"Cookie": "hk_token=k", "Origin": "https://evil.example", "Host": "shop.example"},
            "",
            "",
        ),
        ({"Cookie": "hk_token=k", "Origin": "null", "Host": "shop.example"}, "", ""),
        ({"Authorization": "Basic k", "Cookie": "@;=\x7f"}, "", ""),
    ],
)
def test_where_a_key_may_be(given: dict[str, str], query: str, key: str) -> None:
    assert api_key_of(headers(**given), query) == key


SOURCES = [
    Source(
        id="shop",
        write_key_hashes=(hash_key("write"),),
        read_key_hashes=(hash_key("read"),),
        admin_key_hashes=(hash_key("admin"),),
    ),
    Source(id="blog", admin_key_hashes=(hash_key("blog-admin"),)),
    Source(id="shut", admin_key_hashes=(hash_key("shut-admin"),), enabled=False),
]


@pytest.mark.parametrize(
    ("key", "site", "reads", "administers"),
    [
        ("admin", "shop", None, None),
        ("read", "shop", None, "forbidden"),
        ("write", "shop", "forbidden", "forbidden"),
        ("blog-admin", "shop", "forbidden", "forbidden"),
        ("admin", "blog", "forbidden", "forbidden"),
        ("admin", "nowhere", "forbidden", "forbidden"),
        ("unknown", "shop", "unauthorized", "unauthorized"),
        ("", "shop", "unauthorized", "unauthorized"),
        ("shut-admin", "shut", "unauthorized", "unauthorized"),
    ],
)
def test_who_may(key: str, site: str, reads: str | None, administers: str | None) -> None:
    for wants, expected in ((False, reads), (True, administers)):
        refused = refuse_access(key, site, wants, SOURCES)
        assert (refused.code if refused else None) == expected


@pytest.mark.parametrize("page", ["http://[", "https://[::1", "http://\u2100x"])
def test_a_page_whose_host_cannot_be_read_needs_a_key(page: str) -> None:
    assert api_key_of(headers(Origin=page, Host="a", Cookie="hk_token=k"), "") == ""
