"""The site API reads a key from headers, query or cookie and opens only its own source and scope."""

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
def test_api_key_is_read_from_header_query_or_same_origin_cookie(
    given: dict[str, str], query: str, key: str
) -> None:
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
def test_site_access_requires_a_key_of_the_enabled_source_with_the_right_scope(
    key: str, site: str, reads: str | None, administers: str | None
) -> None:
    for wants, expected in ((False, reads), (True, administers)):
        refused = refuse_access(key, site, wants, SOURCES)
        assert (refused.code if refused else None) == expected


@pytest.mark.parametrize("page", ["http://[", "https://[::1", "http://\u2100x"])
def test_api_key_cookie_is_ignored_when_the_origin_cannot_be_parsed(page: str) -> None:
    assert api_key_of(headers(Origin=page, Host="a", Cookie="hk_token=k"), "") == ""
