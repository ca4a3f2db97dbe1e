"""Rate limits as token buckets, each stored as one timestamp. Pure: the caller passes the time."""

import ipaddress
from functools import lru_cache

MAX_CLIENTS = 50_000


class Bucket:
    """A token bucket: at most `burst` (1 or more) at once and `rate` a second; a larger take is paid back first.

    It is stored as the time at which it is full again (the generic cell rate algorithm, ITU-T I.371).
    """

    __slots__ = ("_burst_seconds", "_full_at", "_seconds_each")

    def __init__(self, rate: float, burst: float) -> None:
        self._seconds_each = 1 / rate
        self._burst_seconds = burst / rate
        self._full_at = 0.0

    def take(self, amount: int, now: float) -> float:
        """Take `amount` and return 0, or return the seconds until something can be taken again."""
        missing = self._full_at - now - self._burst_seconds + self._seconds_each
        if missing > 1e-9:
            return missing
        self._full_at = max(self._full_at, now) + amount * self._seconds_each
        return 0.0


class ClientBuckets:
    """One bucket for each client address. Memory is bounded: the addresses seen longest ago are forgotten."""

    def __init__(self, rate: float, burst: int, max_clients: int = MAX_CLIENTS) -> None:
        self._rate = rate
        self._burst = burst
        self._max_clients = max_clients
        self._buckets: dict[str, Bucket] = {}

    def take(self, address: str, now: float) -> float:
        """Return 0 if a request may pass; else the seconds until one may pass again."""
        if not self._rate:
            return 0.0
        network = network_of(address)
        bucket = self._buckets.pop(network, None) or Bucket(self._rate, self._burst)
        self._buckets[network] = bucket  # now the last one: dicts keep the order
        if len(self._buckets) > self._max_clients:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(1, now)

    def __len__(self) -> int:
        return len(self._buckets)


@lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """Return what to limit for an address: IPv4 itself, the /64 of IPv6, as an IPv6 client owns at least that."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class Proxies:
    """The proxies whose `X-Forwarded-For` is trusted."""

    def __init__(self, trusted: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(text, strict=False) for text in trusted]
        self.is_trusted = lru_cache(maxsize=4_096)(self._find)

    def client_of(self, peer: str, forwarded: str) -> str:
        """Return the nearest address that is no trusted proxy; the peer's own address if the peer is not trusted."""
        if not self._networks or not forwarded or not self.is_trusted(peer):
            return peer
        nearest = peer
        for part in reversed(forwarded.split(",")):
            address = _bare(part)
            if not address:
                return nearest
            nearest = address
            if not self.is_trusted(address):
                return address
        return nearest

    def _find(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)


def _bare(text: str) -> str:
    """Return an address without port and brackets; empty if it is no address."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return plain_address(text)


def plain_address(text: str) -> str:
    """Return an address in its usual notation, IPv4 without `::ffff:`; empty if it is no address."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)
