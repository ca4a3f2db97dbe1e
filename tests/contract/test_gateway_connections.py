"""Slow, broken and vanishing clients, byte by byte."""

import re

import pytest

from tests.contract.gateway_fixture import (
    HEAD,
    KEY,
    RunningGateway,
    connect,
    receive_all,
)


def test_a_slow_body_is_given_up_and_hurts_nobody(gateway: RunningGateway) -> None:
    with connect(gateway) as slow:
        slow.sendall(HEAD + b'Content-Length: 100\r\nConnection: close\r\n\r\n{"ev')
        assert gateway.post(KEY, b'{"event":"a"}').status == 202
        assert receive_all(slow).startswith(b"HTTP/1.1 408 ")


def test_clients_that_hang_up_hurt_nobody(gateway: RunningGateway) -> None:
    for part in (
        b"POST /v1/ev",
        HEAD,
        HEAD + b'Content-Length: 100\r\n\r\n{"ev',
        HEAD + b"Content-Length: 13\r\n\r\n" + b'{"event":"a"}',
    ):
        with connect(gateway) as gone:
            gone.sendall(part)
    assert gateway.post(KEY, b'{"event":"a"}').status == 202
    assert "Traceback" not in gateway.process.said()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/events?" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_broken_http_is_a_400(gateway: RunningGateway, request_bytes: bytes) -> None:
    with connect(gateway) as connection:
        connection.sendall(request_bytes)
        assert receive_all(connection).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in gateway.process.said()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (b"/v1/events?key=secret" + b"x" * 20_000, b"is longer than 8,190 bytes"),
        (b"http://[::1?key=secret", b"no valid URL"),
    ],
)
def test_what_is_wrong_is_said_without_quoting_it(
    gateway: RunningGateway, target: bytes, told: bytes
) -> None:
    with connect(gateway) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        received = receive_all(connection)
    assert told in received
    assert b"secret" not in received


def test_leading_zeros_of_a_length_are_only_zeros(gateway: RunningGateway) -> None:
    length = b"Content-Length: " + b"0" * 5_000 + b"13\r\n"
    with connect(gateway) as connection:
        connection.sendall(HEAD + length + b'Connection: close\r\n\r\n{"event":"a"}')
        assert receive_all(connection).startswith(b"HTTP/1.1 202 ")
    assert "Traceback" not in gateway.process.said()


def test_pipelined_requests_are_answered_in_order(gateway: RunningGateway) -> None:
    one = HEAD + b"Content-Length: 13\r\n\r\n" + b'{"event":"a"}'
    two = HEAD + b"Content-Length: 12\r\nConnection: close\r\n\r\n" + b'{"event":""}'
    with connect(gateway) as connection:
        connection.sendall(one + two)
        received = receive_all(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"202", b"422"]


def test_a_client_may_ask_to_continue(gateway: RunningGateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(
            HEAD + b"Content-Length: 13\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"event":"a"}')
        assert receive_all(connection).startswith(b"HTTP/1.1 202 ")


def test_http_1_0_closes(gateway: RunningGateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        received = receive_all(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in received
