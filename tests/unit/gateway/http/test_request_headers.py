"""Request headers yield the key, media type and site, whatever their spelling."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from weir.gateway.http.request_headers import clean, key_of, media_of, path_part, site_of


def headers(**fields: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): v for name, v in fields.items()}))


@pytest.mark.parametrize(
    ("given", "query", "expected"),
    [
        (headers(authorization="Bearer a"), "key=c", "a"),
        (headers(authorization="bearer  a "), "", "a"),
        (headers(authorization="Basic xyz", x_weir_key=" b "), "key=c", "b"),
        (headers(), "x=1&key=c%2Fd", "c/d"),
        (headers(), "x=1", ""),
        (headers(), "", ""),
        (headers(), "key=%ff", "\ufffd"),
        (headers(authorization="Basic ZDo="), "key=c", "c"),
        (headers(authorization="Basic ZDo="), "x=1", "d"),
        (headers(authorization="basic  ZDpzZWNyZXQ= "), "", "d"),
        (headers(authorization="Basic ZA=="), "", "d"),
        (headers(authorization="Basic /w=="), "", ""),
        (headers(authorization="Basic \ufffd"), "", ""),
        (headers(authorization="Basic"), "", ""),
    ],
)
def test_the_write_key_is_taken_from_the_first_place_that_has_one(
    given: CIMultiDictProxy[str], query: str, expected: str
) -> None:
    assert key_of(given, query) == expected


@pytest.mark.parametrize(
    ("content_type", "taken", "is_ndjson"),
    [
        ("application/json", True, False),
        ("", True, False),
        ("Application/JSON; charset=UTF-8", True, False),
        ('application/json;charset="utf-8"', True, False),
        ("text/plain;charset=UTF-8", True, False),
        ("application/vnd.api+json", True, False),
        ("application/cloudevents+json; charset=utf-8; x=y", True, False),
        ("application/x-ndjson", True, True),
        ("application/jsonl", True, True),
        ("application/json; charset=utf-16", False, False),
        ("application/x-www-form-urlencoded", True, False),
        ("application/octet-stream", True, False),
        ("model/gltf+json", True, False),
        ("+json", False, False),
        ("image/png", False, False),
        ("multipart/form-data; boundary=x", False, False),
        ("text/html", False, False),
        ("json", False, False),
    ],
)
def test_content_types_are_accepted_or_refused_and_ndjson_is_recognised(
    content_type: str, taken: bool, is_ndjson: bool
) -> None:
    assert media_of(content_type) == (taken, is_ndjson)


def test_header_and_path_text_is_always_valid_unicode() -> None:
    assert clean("caf\udce9") == "caf\ufffd"
    assert clean("caf\udcc3\udca9") == "café"
    assert path_part("a%20b") == "a b"
    assert path_part("%ff") == "\ufffd"


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://Shop.example", "shop.example"),
        ("http://www.shop.example:8080", "shop.example"),
        ("HTTPS://WWW.SHOP.EXAMPLE/a?b#c", "shop.example"),
        ("https://shop.example@evil.example/", "evil.example"),
        ("https://www.www.shop.example", "www.shop.example"),
        ("http://[::1]:80", "::1"),
        ("ftp://shop.example", ""),
        ("//shop.example", ""),
        ("shop.example", ""),
        ("https://[", ""),
        ("null", ""),
        ("", ""),
    ],
)
def test_the_site_is_the_host_of_an_http_url_without_www(url: str, site: str) -> None:
    assert site_of(url) == site
