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
        "serve TLS with this certificate (PEM, with what lies between it and its authority); empty:"
        " plain HTTP",
        check=is_file,
    )
    gateway_tls_key: Path | None = setting(
        None, "its private key (PEM, without a password)", check=is_file
    )
    gateway_processes: int = setting(
        1, "gateway processes that share the port (SO_REUSEPORT)", check=at_least(1)
    )
    gateway_max_events: int = setting(2_000, "events a request at most", check=at_least(1))
    gateway_max_body_bytes: int = setting(
        2 * MEBIBYTE,
        "decompressed body of a request at most",
        "B",
        check=between(1_024, BODY_BYTES),
    )
    gateway_inflight_kilobytes: int = setting(
        65_536,
        "bodies in memory at most, read or being read; besides, a quarter of it for what connections"
        " have received and no request has read yet",
        "KiB",
        check=at_least(4_096),
    )
    gateway_connections: int = setting(
        4_096,
        "connections of a process at most; beyond it the one that has shown least for its place is"
        " closed: idle ones first, then those of unknown senders",
        check=at_least(16),
    )
    gateway_connections_per_address: int = setting(
        512, "the same, of one client address (trusted proxies aside)", check=at_least(4)
    )
    gateway_header_bytes: int = setting(
        8_192,
        "one header at most; all of a request together four times as many",
        "B",
        check=between(1_024, 65_536),
    )
    gateway_queue_kilobytes: int = setting(
        65_536, "records that wait for the brokers at most", "KiB", check=at_least(4_096)
    )
    gateway_linger_ms: float = setting(
        1.0, "how long records are gathered for one request to a broker", "ms", check=at_least(0)
    )
    gateway_ack_seconds: float = setting(
        10.0,
        "after that without the brokers' word a request is answered 503",
        "s",
        check=at_least(1),
    )
    gateway_body_seconds: float = setting(
        30.0, "how long a client may take to send a body or read a reply", "s", check=at_least(0.1)
    )
    gateway_idle_seconds: float = setting(
        75.0, "how long a connection may be silent, its headers included", "s", check=at_least(1)
    )
    gateway_drain_seconds: float = setting(
        20.0, "how long SIGTERM waits for requests under way", "s", check=at_least(0)
    )
    retention_warn: float = setting(
        0.5,
        "share of a topic's retention that unread records may have used before log and `weir"
        " status` tell of it; 0: off",
        check=_is_share,
    )
    retention_refuse: float = setting(
        0.8,
        "the same, before gateways answer new events with 503; 0: off",
        check=_is_share,
    )
    retention_refuse_whom: str = setting(
        "source",
        "whose events then: `source`, of those that most of what is unread comes from, and of all"
        " where that cannot be told or half of the rest is used up too; `all`, of all at once",
        check=one_of(WHOM),
    )
    retention_look_seconds: float = setting(
        30.0, "how often a gateway looks how old unread records are", "s", check=at_least(0.1)
    )
    ingest_rate: float = setting(
        20.0,
        "requests a second and client address to browser sources, and without a key at any door;"
        " 0: no limit",
        "1/s",
        check=at_least(0),
        alias="HITKEEP_INGEST_RATE_LIMIT",
        is_flag=True,
    )
    ingest_burst: int = setting(
        40,
        "the same: requests at once",
        check=at_least(1),
        alias="HITKEEP_INGEST_BURST",
        is_flag=True,
    )
    trusted_proxies: tuple[str, ...] = setting(
        (), "addresses or networks whose X-Forwarded-For is believed", check=_are_networks
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
