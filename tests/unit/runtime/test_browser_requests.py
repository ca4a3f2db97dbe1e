"""Requests from foreign web pages are rejected; programs and the service's own pages are allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from weir.runtime.browser_requests import refuse_foreign_page

OWN = "127.0.0.1:8123"


def refused(*headers: tuple[str, str], host: str = OWN, loopback_only: bool = True) -> bool:
    given_headers = CIMultiDict([("Host", host), *headers] if host else headers)
    values = lambda name: given_headers.getall(name, ())  # noqa: E731
    return refuse_foreign_page(values, loopback_only) is not None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("User-Agent", "curl/8"), ("Accept", "*/*")],
        [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")],
        [("Sec-Fetch-Site", "same-origin"), ("Origin", f"http://{OWN}")],
        [("Origin", f"http://{OWN}"), ("Referer", f"http://{OWN}/?query=SELECT+1")],
        [("Referer", f"http://{OWN}")],
    ],
)
def test_requests_of_programs_users_and_own_pages_are_allowed(
    headers: list[tuple[str, str]],
) -> None:
    assert not refused(*headers)
    assert not refused(*headers, loopback_only=False)


@pytest.mark.parametrize(
    "header",
    [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),  # another port of this machine
        ("sec-fetch-site", "Cross-Site"),
        ("Sec-Fetch-Site", ""),
        ("Sec-Fetch-Site", "same-origin, cross-site"),
        ("Origin", "http://evil.example"),
        ("Origin", "http://127.0.0.1:3000"),
        ("Origin", "http://localhost:8123"),  # another name is another origin
        ("Origin", f"http://{OWN}.evil.example"),
        ("Origin", f"http://evil.example/{OWN}"),
        ("Origin", f"http://evil@{OWN}"),
        ("Origin", "null"),
        ("Origin", ""),
        ("Origin", "http://[::1"),
        ("Origin", "http://\udcff"),
        ("Origin", "chrome-extension://abcdef"),
        ("Referer", "http://evil.example/page"),
        ("Referer", f"http://evil.example/?{OWN}"),
        ("Referer", "http://[::1"),
    ],
)
def test_requests_of_foreign_pages_are_rejected(header: tuple[str, str]) -> None:
    assert refused(header)
    assert refused(header, loopback_only=False)


def test_a_repeated_header_with_one_bad_value_is_rejected() -> None:
    assert refused(("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site"))
    assert refused(("Origin", f"http://{OWN}"), ("Origin", "http://evil.example"))
    assert refused(("Host", "localhost"))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8123", "127.0.0.1", "[::1]:8123", ""])
def test_requests_to_loopback_names_are_allowed(host: str) -> None:
    assert not refused(host=host)


@pytest.mark.parametrize(
    "host",
    ["rebound.example", "rebound.example:8123", "0.0.0.0:8123", "10.0.0.1", "localhost.evil"],
)
def test_other_host_names_are_rejected_when_only_loopback_is_allowed(host: str) -> None:
    assert refused(host=host)
    assert not refused(host=host, loopback_only=False)


@pytest.mark.parametrize("host", ["[::1", "a b", "evil@localhost", "localhost:x", "[]", "a,b", "/"])
def test_a_malformed_host_header_is_rejected(host: str) -> None:
    assert refused(host=host)
    assert refused(host=host, loopback_only=False)


@given(st.sampled_from(["Host", "Origin", "Referer", "Sec-Fetch-Site"]), st.text(max_size=30))
def test_any_header_value_is_judged_without_an_exception(name: str, value: str) -> None:
    refused((name, value))
    refused(host=value)
