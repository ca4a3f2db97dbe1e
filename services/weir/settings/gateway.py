"""Settings of the gateway."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from weir.core.record_limits import BODY_BYTES
from weir.core.retention import FLOOR, WHOM, RetentionPolicy
from weir.settings.environment import at_least, between, setting
from weir.settings.shared import is_file, one_of

MEBIBYTE = 1024 * 1024
# Unauthenticated clients share a quarter of the memory for bodies. One of them can send the largest body
# compressed, which takes twice its size during decompression.
BODIES_IN_FLIGHT = 8


def _are_networks(values: tuple[str, ...]) -> str | None:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            return f"{value!r} is neither an address nor a network such as 10.0.0.0/8"
    return None


def _is_share(value: float) -> str | None:
    if value == 0 or FLOOR <= value <= 1:
        return None
    return f"must be from {FLOOR:g} to 1, or 0 for off, not {value}"


@dataclass(frozen=True)
class GatewaySettings:
    gateway_port: int = setting(8080, "port of the gateway")
    gateway_tls_cert: Path | None = setting(
        None,
        "serve TLS with this certificate (PEM, with its intermediate certificates); empty: plain HTTP",
        check=is_file,
    )
    gateway_tls_key: Path | None = setting(
        None, "private key of that certificate (PEM, without a password)", check=is_file
    )
    gateway_processes: int = setting(
        1, "gateway processes that share the port (SO_REUSEPORT)", check=at_least(1)
    )
    gateway_max_events: int = setting(
        2_000, "maximum number of events in a request", check=at_least(1)
    )
    gateway_max_body_bytes: int = setting(
        2 * MEBIBYTE,
        "maximum size of a request's decompressed body",
        "B",
        check=between(1_024, BODY_BYTES),
    )
    gateway_inflight_kilobytes: int = setting(
        65_536,
        "maximum size of all bodies in memory, read or being read; in addition, a quarter of it for"
        " bytes that connections have received and no request has read yet",
        "KiB",
        check=at_least(4_096),
    )
    gateway_connections: int = setting(
        4_096,
        "maximum number of connections of a process; above it the connection with the lowest priority"
        " is closed: idle ones first, then those of unknown senders",
        check=at_least(16),
    )
    gateway_connections_per_address: int = setting(
        512,
        "maximum number of connections from one client address (except trusted proxies)",
        check=at_least(4),
    )
    gateway_header_bytes: int = setting(
        8_192,
        "maximum size of one header; all headers of a request together: four times as many",
        "B",
        check=between(1_024, 65_536),
    )
    gateway_queue_kilobytes: int = setting(
        65_536,
        "maximum size of the records that wait for the brokers",
        "KiB",
        check=at_least(4_096),
    )
    gateway_linger_ms: float = setting(
        1.0, "how long records are collected for one request to a broker", "ms", check=at_least(0)
    )
    gateway_ack_seconds: float = setting(
        10.0,
        "how long a request waits for the brokers' acknowledgement before it is answered with 503",
        "s",
        check=at_least(1),
    )
    gateway_body_seconds: float = setting(
        30.0, "how long a client may take to send a body or read a reply", "s", check=at_least(0.1)
    )
    gateway_idle_seconds: float = setting(
        75.0,
        "how long a connection may be silent, including while it sends headers",
        "s",
        check=at_least(1),
    )
    gateway_drain_seconds: float = setting(
        20.0,
        "how long the gateway waits for requests in progress after SIGTERM",
        "s",
        check=at_least(0),
    )
    retention_warn: float = setting(
        0.5,
        "share of a topic's retention that unread records may use before the log and `weir status`"
        " warn; 0: off",
        check=_is_share,
    )
    retention_refuse: float = setting(
        0.8,
        "share of a topic's retention that unread records may use before gateways answer new events with"
        " 503; 0: off",
        check=_is_share,
    )
    retention_refuse_whom: str = setting(
        "source",
        "whose new events are answered with 503 (WEIR_RETENTION_REFUSE): `source`: those of the sources"
        " that most unread records are from, and all events if these sources are not known or half of"
        " the rest is used up too; `all`: all events at once",
        check=one_of(WHOM),
    )
    retention_look_seconds: float = setting(
        30.0, "how often a gateway checks the age of unread records", "s", check=at_least(0.1)
    )
    ingest_rate: float = setting(
        20.0,
        "requests per second from one client address to browser sources, and without a key to any"
        " door; 0: no limit",
        "1/s",
        check=at_least(0),
        alias="HITKEEP_INGEST_RATE_LIMIT",
        is_flag=True,
    )
    ingest_burst: int = setting(
        40,
        "requests that one client address may send at once, within WEIR_INGEST_RATE",
        check=at_least(1),
        alias="HITKEEP_INGEST_BURST",
        is_flag=True,
    )
    trusted_proxies: tuple[str, ...] = setting(
        (), "addresses or networks whose X-Forwarded-For is trusted", check=_are_networks
    )

    @property
    def retention(self) -> RetentionPolicy:
        return RetentionPolicy(
            self.retention_warn, self.retention_refuse, self.retention_refuse_whom
        )

    @property
    def scheme(self) -> str:
        return "https" if self.gateway_tls_cert else "http"

    def faults(self) -> list[str]:
        faults = []
        if bool(self.gateway_tls_cert) != bool(self.gateway_tls_key):
            faults.append("WEIR_GATEWAY_TLS_CERT and WEIR_GATEWAY_TLS_KEY: one needs the other")
        needed = BODIES_IN_FLIGHT * self.gateway_max_body_bytes
        if self.gateway_inflight_kilobytes * 1024 < needed:
            faults.append(
                f"WEIR_GATEWAY_INFLIGHT_KILOBYTES: must be at least {-(-needed // 1024)}, room for"
                f" {BODIES_IN_FLIGHT} bodies of WEIR_GATEWAY_MAX_BODY_BYTES"
            )
        return faults
