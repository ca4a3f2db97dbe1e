"""Rate limits at the door: token buckets as one time each. Pure; the caller owns the clock."""

import ipaddress
from functools import lru_cache

MAX_CLIENTS = 50_000


class Bucket:
    """At most `burst` (1 or more) at once and `rate` a second; a larger take is paid back first.

    Kept as the moment at which it is full again (the generic cell rate algorithm, ITU-T I.371).
    """

    __slots__ = ("_burst_seconds", "_full_at", "_seconds_each")

    def __init__(self, rate: float, burst: float) -> None:
        self._seconds_each = 1 / rate
        self._burst_seconds = burst / rate
        self._full_at = 0.0

    def take(self, amount: int, now: float) -> float:
        """0 when it was taken; else the seconds until something can be taken again."""
        missing = self._full_at - now - self._burst_seconds + self._seconds_each
        if missing > 1e-9:
            return missing
        self._full_at = max(self._full_at, now) + amount * self._seconds_each
        return 0.0


class ClientBuckets:
    """A bucket a client address; memory is bounded: the addresses seen longest ago are forgotten."""

    def __init__(self, rate: float, burst: int, max_clients: int = MAX_CLIENTS) -> None:
        self._rate = rate
        self._burst = burst
        self._max_clients = max_clients
        self._buckets: dict[str, Bucket] = {}

    def take(self, address: str, now: float) -> float:
        """0 when a request may pass; else the seconds until one may again."""
        if not self._rate:
            return 0.0
        network = network_of(address)
        bucket = self._buckets.pop(network, None) or Bucket(self._rate, self._burst)
        self._buckets[network] = bucket  # last: dicts keep the order
        if len(self._buckets) > self._max_clients:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(1, now)

    def __len__(self) -> int:
        return len(self._buckets)


@lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """An IPv6 client owns a /64 at least, so that is what is limited."""
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
    """Whose `X-Forwarded-For` is believed."""

    def __init__(self, trusted: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(text, strict=False) for text in trusted]
        self.is_trusted = lru_cache(maxsize=4_096)(self._find)

    def client_of(self, peer: str, forwarded: str) -> str:
        """The nearest address that no trusted proxy has; the peer's own if it is not trusted."""
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
    """An address without port and brackets; empty when it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return plain_address(text)


def plain_address(text: str) -> str:
    """An address as it is written commonly, that of an IPv4 client without `::ffff:`; empty: it is none."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)
