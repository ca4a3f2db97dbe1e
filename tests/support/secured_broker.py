"""The embedded broker with listeners that want passwords, TLS, or both, and one user who may."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.support.certificates import Authority, Certificate
from tests.support.running import RunningProcess, start_process, wait_for_broker
from weir.embedded.kafka.broker import FIXED, Broker
from weir.embedded.kafka.kafka_download import resolve_jars
from weir.embedded.kafka.toolchain import find_java
from weir.embedded.ports import LOOPBACK, free_port

USER, PASSWORD = "weir", "correct horse, battery=staple"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
# listener -> its protocol
PROTOCOLS = {
    "PLAIN": "SASL_PLAINTEXT",
    "SCRAM": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "BOTH": "SASL_SSL",
}


@dataclass(frozen=True)
class SecuredBroker:
    """Where each listener is, what clients trust it by, and a certificate that the broker trusts."""

    process: RunningProcess
    inner: str  # of the listener that asks nothing of anybody
    addresses: Mapping[str, str]
    ca: Path
    client: Certificate

    def environ(self, listener: str, mechanism: str = "", **changed: str) -> dict[str, str]:
        """The settings with which Weir gets in there."""
        protocol = PROTOCOLS[listener]
        settings = {
            "WEIR_KAFKA_BOOTSTRAP": self.addresses[listener],
            "WEIR_KAFKA_SECURITY_PROTOCOL": protocol,
        }
        if protocol.startswith("SASL"):
            settings |= {
                "WEIR_KAFKA_SASL_MECHANISM": mechanism,
                "WEIR_KAFKA_USERNAME": USER,
                "WEIR_KAFKA_PASSWORD": PASSWORD,
            }
        if protocol.endswith("SSL"):
            settings["WEIR_KAFKA_CA_FILE"] = str(self.ca)
        if listener == "MUTUAL":
            settings["WEIR_KAFKA_CERT_FILE"] = str(self.client.cert)
            settings["WEIR_KAFKA_KEY_FILE"] = str(self.client.key)
        return settings | changed


def start_secured_broker(folder: Path) -> SecuredBroker:
    """Answers on every listener on return, and knows the user."""
    authority = Authority(folder / "certificates")
    server = authority.issue("broker")
    ports = {name: free_port() for name in PROTOCOLS}
    jars = asyncio.run(resolve_jars())
    broker = Broker(find_java(), jars, folder / "kafka", free_port(), free_port(), 256)
    broker.write_properties()
    with broker.properties.open("a") as file:  # of a name given twice the last counts
        lines = _properties(broker, ports, authority.ca, server)
        file.writelines(f"{name}={value}\n" for name, value in lines.items())
    broker.format()
    process = start_process(broker.command(), folder / "kafka.log")
    inner = f"{LOOPBACK}:{broker.port}"
    try:
        wait_for_broker(process, inner)
        _add_user(inner)
    except BaseException:
        process.kill()
        raise
    addresses = {name: f"{LOOPBACK}:{port}" for name, port in ports.items()}
    return SecuredBroker(process, inner, addresses, authority.ca, authority.issue("client"))


def _properties(
    broker: Broker, ports: Mapping[str, int], ca: Path, server: Certificate
) -> dict[str, str]:
    inner = f"BROKER://{LOOPBACK}:{broker.port}"
    outer = ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())
    kinds = ",".join(f"{name}:{kind}" for name, kind in PROTOCOLS.items())
    return {
        "listeners": f"{inner},CONTROLLER://{LOOPBACK}:{broker.controller_port},{outer}",
        "advertised.listeners": f"{inner},{outer}",
        "listener.security.protocol.map": f"{FIXED['listener.security.protocol.map']},{kinds}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.plain.plain.sasl.jaas.config": f'{PLAIN} required user_{USER}="{PASSWORD}";',
        **_scram("scram", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        **_scram("both", "SCRAM-SHA-512"),
    }


def _scram(listener: str, *mechanisms: str) -> dict[str, str]:
    prefix = f"listener.name.{listener}"
    return {
        f"{prefix}.sasl.enabled.mechanisms": ",".join(mechanisms),
        **{f"{prefix}.{m.lower()}.sasl.jaas.config": f"{SCRAM} required;" for m in mechanisms},
    }


def _add_user(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    kinds = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    changes = [
        UserScramCredentialUpsertion(USER, ScramCredentialInfo(kind, 4_096), PASSWORD.encode())
        for kind in kinds
    ]
    for change in changes:
        for done in admin.alter_user_scram_credentials([change]).values():
            done.result(20)
