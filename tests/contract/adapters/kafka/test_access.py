"""Weir connects to a secured broker with each mechanism, and names the wrong setting when refused."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.running import bare_environ, free_port, start_process, wait_until
from tests.support.running_warehouse import start_warehouse
from tests.support.secured_broker import (
    PASSWORD,
    SecuredBroker,
    start_secured_broker,
)
from weir.adapters.kafka.access import KafkaUnreachableError, connect
from weir.cli.topics import apply_topics
from weir.core.resource_paths import ROOT
from weir.core.service_modules import SERVICE_MODULES
from weir.settings.environment import load
from weir.settings.shared import KafkaSettings

WAYS = [
    ("PLAIN", "PLAIN"),
    ("SCRAM", "SCRAM-SHA-256"),
    ("SCRAM", "SCRAM-SHA-512"),
    ("TLS", ""),
    ("MUTUAL", ""),
    ("BOTH", "SCRAM-SHA-512"),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    running = start_secured_broker(tmp_path_factory.mktemp("secured"))
    try:
        apply_topics(KafkaSettings(kafka_bootstrap=running.inner))
        yield running
    finally:
        running.process.stop()


def weir(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weir.cli.main", *arguments],
        cwd=ROOT,
        env=bare_environ(**environ),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("listener", "mechanism"), WAYS)
def test_commands_connect_with_each_security_protocol_and_mechanism(
    broker: SecuredBroker, listener: str, mechanism: str
) -> None:
    listed = weir(broker.environ(listener, mechanism), "topics", "list")
    assert listed.returncode == 0, listed.stderr
    assert "events.accepted" in listed.stdout


@pytest.mark.parametrize(
    ("listener", "mechanism", "changed", "said"),
    [
        (
            "PLAIN",
            "PLAIN",
            {"WEIR_KAFKA_PASSWORD": "wrong-one"},
            "refuses the user 'weir' with PLAIN",
        ),
        ("SCRAM", "SCRAM-SHA-512", {"WEIR_KAFKA_PASSWORD": "wrong-one"}, "refuses the user 'weir'"),
        ("SCRAM", "SCRAM-SHA-256", {"WEIR_KAFKA_USERNAME": "nobody"}, "refuses the user 'nobody'"),
        ("BOTH", "SCRAM-SHA-512", {"WEIR_KAFKA_PASSWORD": "wrong-one"}, "WEIR_KAFKA_PASSWORD"),
        ("SCRAM", "PLAIN", {}, "WEIR_KAFKA_SASL_MECHANISM"),
        ("TLS", "", {"WEIR_KAFKA_CA_FILE": "another's"}, "WEIR_KAFKA_CA_FILE"),
        ("MUTUAL", "", {"WEIR_KAFKA_CERT_FILE": "", "WEIR_KAFKA_KEY_FILE": ""}, "_CERT_FILE"),
    ],
)
def test_a_command_names_the_wrong_kafka_credential_in_one_line_without_the_secret(
    broker: SecuredBroker,
    tmp_path: Path,
    listener: str,
    mechanism: str,
    changed: dict[str, str],
    said: str,
) -> None:
    if changed.get("WEIR_KAFKA_CA_FILE"):
        changed = {"WEIR_KAFKA_CA_FILE": str(Authority(tmp_path).ca)}
    refused = weir(broker.environ(listener, mechanism, **changed), "topics", "list")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "wrong-one" not in refused.stderr
    assert PASSWORD not in refused.stderr


@pytest.mark.parametrize("listener", ["PLAIN", "TLS"])
def test_a_plaintext_client_of_a_secured_listener_is_told_which_setting_to_set(
    broker: SecuredBroker, listener: str
) -> None:
    settings = KafkaSettings(kafka_bootstrap=broker.addresses[listener])
    with pytest.raises(KafkaUnreachableError, match="set WEIR_KAFKA_SECURITY_PROTOCOL"):
        connect(settings)


@pytest.mark.parametrize("service", ["gateway", "dedup", "sink"])
def test_a_service_with_a_wrong_kafka_password_exits_with_the_reason(
    broker: SecuredBroker, tmp_path: Path, service: str
) -> None:
    environ = broker.environ(
        "BOTH",
        "SCRAM-SHA-512",
        WEIR_KAFKA_PASSWORD="wrong-one",
        WEIR_DATA_DIR=str(tmp_path),
        WEIR_GATEWAY_PORT=str(free_port()),
    )
    ended = weir(environ, service)
    assert ended.returncode == 1
    assert "refuses the user 'weir'" in ended.stderr
    assert "wrong-one" not in ended.stderr


def test_an_event_reaches_clickhouse_through_a_secured_broker(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    gateway_port = free_port()
    warehouse = start_warehouse(tmp_path / "warehouse")
    environ = broker.environ(
        "BOTH",
        "SCRAM-SHA-512",
        WEIR_DATA_DIR=str(tmp_path),
        WEIR_GATEWAY_PORT=str(gateway_port),
        WEIR_CLICKHOUSE_URL=warehouse.url,
    )
    running = []
    with ExitStack() as left:
        left.callback(warehouse.stop)
        for arguments in (("migrate",), ("apply", "deploy/sources.yaml")):
            done = weir(environ, *arguments)
            assert done.returncode == 0, done.stderr
        for service in ("gateway", "dedup", "identity", "rates", "sink"):
            log = tmp_path / f"{service}.log"
            command = [sys.executable, "-m", SERVICE_MODULES[service]]
            process = start_process(command, log, bare_environ(**environ))
            left.callback(process.stop)
            running.append(process)

        def accepted() -> bool:
            request = urllib.request.Request(
                f"http://127.0.0.1:{gateway_port}/v1/events",
                b'{"event": "hello", "id": "secured-1", "user_id": "ada"}',
                {"X-Weir-Key": "demo-write-key"},
            )
            try:
                with urllib.request.urlopen(request, timeout=15) as answer:
                    return bool(answer.status == 202)
            except (urllib.error.URLError, OSError):
                return False

        wait_until(accepted, 60, "the gateway to accept")
        audit = weir(environ, "audit", "--wait", "60")
        assert audit.returncode == 0, audit.stdout + audit.stderr
        found = weir(environ, "sql", "SELECT event, user_id FROM weir.events_current")
        assert "hello" in found.stdout
        said = "".join(process.said() for process in running)
        assert PASSWORD not in said


def test_kafka_passwords_are_absent_from_printed_settings_and_their_repr() -> None:
    environ = {
        "WEIR_KAFKA_BOOTSTRAP": "b:9092",
        "WEIR_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "WEIR_KAFKA_USERNAME": "weir",
        "WEIR_KAFKA_PASSWORD": PASSWORD,
        "WEIR_KAFKA_KEY_PASSWORD": PASSWORD,
    }
    assert PASSWORD not in repr(load(KafkaSettings, environ))
    assert PASSWORD not in weir(environ, "settings").stdout
    assert "WEIR_KAFKA_PASSWORD" in weir(environ, "settings").stdout
