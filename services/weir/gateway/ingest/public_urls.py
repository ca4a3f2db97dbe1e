"""Check by its spelling whether a URL points to the public Internet; nothing is resolved or fetched. Pure.

A name that resolves to a private address passes: a client that fetches the URL must check the resolved address.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

MAX_URL_CHARACTERS = 2_048

# https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast: not globally reachable.
_IPV4_NOT_PUBLIC = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
# Of IPv6 only global unicast is public, without the entries of IANA's special registry and without the
# ranges that embed an IPv4 address (Teredo, 6to4).
_IPV6_PUBLIC = IPv6Network("2000::/3")
_IPV6_NOT_PUBLIC = [
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
# RFC 6761, 6762, 7686 and 8375, ICANN's `internal`, and names that private networks commonly use.
_PRIVATE_ENDINGS = tuple(
    f".{ending}"
    for ending in (
        "localhost", "local", "internal", "home.arpa", "invalid", "test", "onion",
        "corp", "home", "intranet", "lan", "localdomain", "private",
    )
)  # fmt: skip

_odd = re.compile(r"[\s\\\x00-\x1f\x7f-\x9f]").search
_authority = re.compile(r"https?://([^/?#]*)", re.IGNORECASE).match
_host_and_port = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{0,5}))?").fullmatch
_label = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?").fullmatch
_number = re.compile(r"[0-9]+|0x[0-9a-f]*").fullmatch


def why_not_public(url: str) -> str:
    """Return why a URL is not a public http(s) URL; empty: it is one."""
    if len(url) > MAX_URL_CHARACTERS:
        return f"has {len(url):,} characters; at most {MAX_URL_CHARACTERS:,} are allowed"
    authority = _authority(url)
    if authority is None:
        return "is not an http or https URL"
    if _odd(url):
        return "contains white space, a backslash or a control character"
    if "@" in authority[1]:
        return "has a user name before its host"
    parts = _host_and_port(authority[1])
    if parts is None or not parts[1] or int(parts[2] or 0) > 65_535:
        return "has no valid host"
    host = parts[1]
    return _why_not_ipv6(host[1:-1]) if host.startswith("[") else _why_not_name(host)


def _why_not_ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        return "has no valid IPv6 address"
    if (
        address.scope_id
        or address not in _IPV6_PUBLIC
        or any(address in network for network in _IPV6_NOT_PUBLIC)
    ):
        return "has an address that is not public"
    return ""


def _why_not_name(host: str) -> str:
    """Check a name as resolvers read it: first normalize full-width digits, other dots, invisible characters."""
    try:
        name = host.encode("idna").decode().lower().removesuffix(".") if len(host) < 255 else ""
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if not all(map(_label, labels)):
        return "has no valid host name"
    if _number(labels[-1]):
        return _why_not_ipv4(name)
    if len(labels) == 1 or f".{name}".endswith(_PRIVATE_ENDINGS):
        return "has a host name that is not public"
    return ""


def _why_not_ipv4(name: str) -> str:
    """Check an IPv4 address. Octal, hexadecimal and shortened spellings are refused, whatever they stand for."""
    try:
        address = IPv4Address(name)
    except ValueError:
        return "has an IPv4 address that is not four plain decimal numbers"
    if any(address in network for network in _IPV4_NOT_PUBLIC):
        return "has an address that is not public"
    return ""
