"""Token buckets limit rates, and client addresses are derived from peers and trusted proxies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway.http.rate_limits import Bucket, ClientBuckets, Proxies, network_of


def test_a_bucket_allows_a_burst_and_then_the_rate() -> None:
    bucket = Bucket(rate=2, burst=4)
    assert [bucket.take(1, 100.0) > 0 for _ in range(6)] == [False] * 4 + [True, True]
    assert bucket.take(1, 100.0) == pytest.approx(0.5)
    assert bucket.take(1, 100.6) == 0
    assert bucket.take(1, 100.6) > 0
    assert [bucket.take(1, 200.0) > 0 for _ in range(5)] == [False] * 4 + [True]


def test_a_take_larger_than_the_burst_delays_later_takes_until_refilled() -> None:
    bucket = Bucket(rate=10, burst=20)
    assert bucket.take(100, 0.0) == 0
    assert 7.9 < bucket.take(1, 0.0) < 8.2
    assert bucket.take(1, 8.2) == 0


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 10)), max_size=50))
def test_a_bucket_never_grants_more_than_burst_and_rate_allow(
    steps: list[tuple[float, int]],
) -> None:
    bucket = Bucket(rate=5, burst=10)
    now, taken = 0.0, 0
    for wait, amount in steps:
        now += wait
        if bucket.take(amount, now) == 0:
            taken += amount
    # one take may go into debt, by less than its amount
    assert taken <= 10 + 5 * now + 10


def test_clients_have_separate_buckets_and_their_number_is_bounded() -> None:
    clients = ClientBuckets(rate=1, burst=1, max_clients=3)
    assert clients.take("10.0.0.1", 0) == 0
    assert clients.take("10.0.0.1", 0) > 0
    assert clients.take("10.0.0.2", 0) == 0
    for last in range(3, 50):
        clients.take(f"10.0.0.{last}", 0)
    assert len(clients) == 3
    assert clients.take("10.0.0.1", 0) == 0  # forgotten


def test_a_rate_of_zero_disables_the_limit() -> None:
    clients = ClientBuckets(rate=0, burst=1)
    assert not any(clients.take("10.0.0.1", 0) for _ in range(100))
    assert len(clients) == 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff", "2001:db8::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_ipv6_clients_are_grouped_by_their_64_network(address: str, expected: str) -> None:
    assert network_of(address) == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", "203.0.113.1", "198.51.100.1"),  # not trusted: its word is nothing
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.1", "203.0.113.1"),  # the client's own lie stays behind
        ("10.0.0.1", "203.0.113.1, 10.2.3.4", "203.0.113.1"),
        ("10.0.0.1", "10.9.9.9, 10.2.3.4", "10.9.9.9"),
        ("10.0.0.1", "203.0.113.1:5000", "203.0.113.1"),
        ("10.0.0.1", "[2001:db8::1]:5000", "2001:db8::1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.1, garbage, 10.2.3.4", "10.2.3.4"),
        ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "::ffff:203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "::ffff:cb00:7101, ::ffff:10.2.3.4", "203.0.113.1"),
        ("10.0.0.1", "[::ffff:203.0.113.1]:5000", "203.0.113.1"),
    ],
)
def test_forwarded_addresses_are_used_only_from_trusted_proxies(
    peer: str, forwarded: str, expected: str
) -> None:
    assert Proxies(("10.0.0.0/8",)).client_of(peer, forwarded) == expected


def test_no_proxy_is_trusted_by_default() -> None:
    assert Proxies(()).client_of("10.0.0.1", "203.0.113.1") == "10.0.0.1"
