"""A gateway serves TLS with several processes and renews its certificate while it runs."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.running import RunningKafka, bare_environ, ending_well, free_port, wait_until
from tests.support.running_gateway import (
    RunningGateway,
    declare,
    make_topics,
    start_gateway,
)
from weir.cli.send import local_gateway
from weir.core.registry import Source
from weir.core.resource_paths import ROOT

KEY = "write-key-behind-tls"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Certificate:
    """The files that the gateway was told of; what they hold changes."""
    folder = tmp_path_factory.mktemp("served")
    files = Certificate(folder / "tls.pem", folder / "tls.key", folder / "none")
    replace(files, authority.issue("first"))
    return files


def replace(files: Certificate, made: Certificate) -> None:
    shutil.copy(made.cert, files.cert)
    shutil.copy(made.key, files.key)


@pytest.fixture(scope="module")
def secure(
    kafka: RunningKafka,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    served: Certificate,
) -> Iterator[RunningGateway]:
    make_topics(kafka.bootstrap)
    declare(kafka.bootstrap, KEY, Source(id="behind-tls"))
    running = start_gateway(
        kafka.bootstrap,
        tmp_path_factory.mktemp("gateway"),
        trust=ssl.create_default_context(cafile=authority.ca),
        WEIR_GATEWAY_PROCESSES="2",
        WEIR_GATEWAY_TLS_CERT=str(served.cert),
        WEIR_GATEWAY_TLS_KEY=str(served.key),
    )
    with ending_well(running.process):
        wait_until(lambda: all(running.knows(KEY) for _ in range(12)), 10, "the source in both")
        yield running


def test_small_and_large_events_are_accepted_on_one_tls_connection(secure: RunningGateway) -> None:
    large = b'{"event": "large", "properties": {"text": "%b"}}' % (b"x" * 90_000)
    connection = secure.connect()
    for body in (b'{"event": "small"}', b"[" + b",".join([large] * 20) + b"]", large):
        connection.request("POST", "/v1/events", body, {"X-Weir-Key": KEY})
        answer = connection.getresponse()
        assert answer.status == 202, answer.read()
        answer.read()
    connection.close()


def test_weir_send_uses_tls_and_refuses_an_untrusted_certificate(
    secure: RunningGateway, authority: Authority, tmp_path: Path
) -> None:
    events = tmp_path / "events.ndjson"
    events.write_text('{"event": "sent"}\n' * 3)

    def send(**settings: str) -> subprocess.CompletedProcess[str]:
        url = f"https://127.0.0.1:{secure.port}"
        return subprocess.run(
            [sys.executable, "-m", "weir.cli.main", "send", str(events), "--patience", "1"],
            cwd=ROOT,
            env=bare_environ(WEIR_GATEWAY_URL=url, WEIR_WRITE_KEY=KEY, **settings),
            capture_output=True,
            text=True,
            timeout=60,
        )

    sent = send(WEIR_GATEWAY_CA_FILE=str(authority.ca))
    assert "3 accepted" in sent.stdout + sent.stderr
    refused = send()
    assert refused.returncode == 1
    assert "set WEIR_GATEWAY_CA_FILE" in refused.stderr


def test_neither_plain_http_nor_old_tls_gets_an_answer(secure: RunningGateway) -> None:
    with socket.create_connection(("127.0.0.1", secure.port), timeout=20) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1_024)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=20) as connection,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(connection)


def subjects(gateway: RunningGateway) -> set[str]:
    """Of the certificates that both processes show: a dozen connections meet either."""
    found = set()
    assert gateway.trust is not None
    for _ in range(12):
        with (
            socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection,
            gateway.trust.wrap_socket(connection, server_hostname="127.0.0.1") as tls,
        ):
            shown = tls.getpeercert()
            assert shown
            found.add(str(dict(pair for group in shown["subject"] for pair in group)["commonName"]))  # type: ignore[misc]
    return found


def test_sighup_renews_the_certificate_and_keeps_the_old_one_if_invalid(
    secure: RunningGateway, served: Certificate, authority: Authority
) -> None:
    before = subjects(secure)
    served.key.write_text("not a key at all")
    os.kill(secure.process.pid, signal.SIGHUP)
    wait_until(lambda: "the old one stays" in secure.process.said(), 10, "the refusal")
    assert subjects(secure) == before
    replace(served, authority.issue("second"))
    os.kill(secure.process.pid, signal.SIGHUP)
    wait_until(lambda: subjects(secure) == {"second"}, 10, "the new certificate")
    assert secure.post(KEY, b'{"event": "after"}').status == 202


@pytest.mark.parametrize("wrong", ["another's key", "no key", "no PEM", "a password", "no file"])
def test_unusable_tls_files_end_the_gateway_with_a_one_sentence_error(
    authority: Authority, tmp_path: Path, wrong: str
) -> None:
    made, other = authority.issue("one"), authority.issue("other")
    settings = {"WEIR_GATEWAY_TLS_CERT": str(made.cert), "WEIR_GATEWAY_TLS_KEY": str(made.key)}
    said = "must be PEM, the key without a password"
    if wrong == "another's key":
        settings["WEIR_GATEWAY_TLS_KEY"] = str(other.key)
        said = "is not the key of the certificate"
    elif wrong == "no key":
        del settings["WEIR_GATEWAY_TLS_KEY"]
        said = "one needs the other"
    elif wrong == "no PEM":
        made.cert.write_text("certainly not")
    elif wrong == "a password":
        lock = "openssl ec -aes256 -passout pass:x"
        command = [*lock.split(), "-in", str(made.key), "-out", str(made.key)]
        subprocess.run(command, check=True, capture_output=True)
    else:
        settings["WEIR_GATEWAY_TLS_KEY"] = str(tmp_path / "nowhere")
        said = "there is no such file"
    ended = subprocess.run(
        [sys.executable, "-m", "weir.cli.main", "gateway"],
        cwd=ROOT,
        env=bare_environ(
            WEIR_DATA_DIR=str(tmp_path), WEIR_GATEWAY_PORT=str(free_port()), **settings
        ),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert ended.returncode != 0
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


def test_the_local_gateway_url_is_https_when_tls_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert local_gateway() == "http://127.0.0.1:8080"
    monkeypatch.setenv("WEIR_GATEWAY_TLS_CERT", __file__)
    monkeypatch.setenv("WEIR_GATEWAY_TLS_KEY", __file__)
    assert local_gateway() == "https://127.0.0.1:8080"
