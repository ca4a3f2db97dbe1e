"""URLs are classified as public or not by their spelling, including every known evasion."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway.ingest.public_urls import MAX_URL_CHARACTERS, why_not_public

PUBLIC = [
    "https://files.example.com/invoices/1.pdf",
    "HTTP://FILES.EXAMPLE.COM",
    "https://files.example.com.:8443/a?b=c#d",
    "https://files.example.com/@home/a@b",
    "https://bücher.de/größe.pdf",
    "https://my_bucket.s3.example.com/x",
    "https://8.8.8.8/x",
    "https://[2606:4700:4700::1111]:443/x",
    "https://10.example.com/",
    "https://local.example.com/",
]
PRIVATE = [
    "http://localhost/x",
    "http://LOCALHOST:8080",
    "http://localhost./x",
    "http://app.localhost/",
    "http://printer.local/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://nas.home.arpa/",
    "http://wiki/",
    "http://db.lan/x",
    "http://127.0.0.1/x",
    "http://127.0.0.1./x",
    "http://127.1/x",
    "http://127.0.1/x",
    "http://2130706433/x",
    "http://0x7f000001/x",
    "http://0x7f.0.0.1/x",
    "http://0177.0.0.1/x",
    "http://017700000001/x",
    "http://00127.0.0.1/x",
    "http://0/x",
    "http://0.0.0.0/x",
    "http://10.1.2.3/x",
    "http://100.64.0.1/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://172.16.0.1/x",
    "http://172.31.255.255/x",
    "http://192.168.0.1/x",
    "http://198.18.0.1/x",
    "http://224.0.0.1/x",
    "http://240.0.0.1/x",
    "http://255.255.255.255/x",
    "http://[::1]/x",
    "http://[::]/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://[::ffff:7f00:1]/x",
    "http://[::127.0.0.1]/x",
    "http://[64:ff9b::7f00:1]/x",
    "http://[2002:7f00:1::]/x",
    "http://[2001:0:7f00:1::]/x",
    "http://[fe80::1]/x",
    "http://[fe80::1%25eth0]/x",
    "http://[fc00::1]/x",
    "http://[fd12:3456::1]/x",
    "http://[ff02::1]/x",
    "http://[2001:db8::1]/x",
    "http://１２７.0.0.1/x",
    "http://127。0。0。1/x",
    "http://①②⑦.0.0.1/x",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/x",
    "http://local\u00adhost/x",
    "http://local\u200bhost/x",
]
TRICKS = [
    "http://files.example.com@127.0.0.1/x",
    "http://user:word@files.example.com/x",
    "http://files.example.com:80@127.0.0.1/x",
    "http://127.0.0.1\\@files.example.com/x",
    "http://127%2e0.0.1/x",
    "http://%6cocalhost/x",
    "http://files.example.com/\r\nHost: 127.0.0.1",
    " http://files.example.com/",
    "http://files.example.com\t/",
    "http:///127.0.0.1/x",
    "http:/127.0.0.1/x",
    "//files.example.com/x",
    "http://",
    "http://:80/x",
    "http://files..example.com/x",
    "http://-files.example.com/x",
    "http://files.example.com:port/x",
    "http://files.example.com:65536/x",
    "http://[::1/x",
    "http://[nonsense]/x",
    "http://files.example.com:８0/x",
    "http://\ud800.example.com/x",
    f"http://{'a' * 300}.example.com/x",
    f"http://{'a' * 64}.example.com/x",
    "ftp://files.example.com/x",
    "file:///etc/passwd",
    "/tmp/report.pdf",
    "C:\\report.pdf",
    "~/report.pdf",
    "data:text/plain,x",
    "javascript:alert(1)",
    "",
]


@pytest.mark.parametrize("url", PUBLIC)
def test_a_public_url_is_accepted(url: str) -> None:
    assert why_not_public(url) == ""


@pytest.mark.parametrize("url", PRIVATE)
def test_a_url_of_a_private_or_local_host_is_rejected(url: str) -> None:
    assert why_not_public(url)


@pytest.mark.parametrize("url", TRICKS)
def test_a_url_that_is_not_a_plain_web_address_is_rejected(url: str) -> None:
    assert why_not_public(url)


def test_a_url_longer_than_2048_characters_is_rejected() -> None:
    start = "https://files.example.com/"
    assert why_not_public(start + "x" * (MAX_URL_CHARACTERS - len(start))) == ""
    assert "2,049" in why_not_public(start + "x" * (MAX_URL_CHARACTERS - len(start) + 1))


@given(st.ip_addresses(v=4))
def test_a_private_ipv4_address_is_rejected_and_so_is_every_unusual_spelling(
    address: ipaddress.IPv4Address,
) -> None:
    parts = address.packed
    dotted = why_not_public(f"http://{address}/")
    if not address.is_global:
        assert dotted
    spellings = [
        str(int(address)),
        hex(int(address)),
        f"0{int(address):o}",
        ".".join(f"0{part:o}" for part in parts),
        ".".join(map(hex, parts)),
        f"{parts[0]}.{int.from_bytes(parts[1:], 'big')}",
        f"{parts[0]}.{parts[1]}.{int.from_bytes(parts[2:], 'big')}",
        f"[::ffff:{address}]",
        f"[::{address}]",
        f"[64:ff9b::{address}]",
    ]
    assert all(why_not_public(f"http://{one}/") for one in spellings)


@given(st.ip_addresses(v=6))
def test_a_private_or_multicast_ipv6_address_is_rejected(address: ipaddress.IPv6Address) -> None:
    if not address.is_global or address.is_multicast:
        assert why_not_public(f"http://[{address}]/")


@given(st.text(max_size=60), st.text(max_size=20))
def test_checking_any_text_returns_a_string(host: str, rest: str) -> None:
    assert isinstance(why_not_public(f"http://{host}/{rest}"), str)
    assert isinstance(why_not_public(rest), str)
