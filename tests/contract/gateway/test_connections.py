"""Slow, broken and disconnecting clients get a clear answer and do not harm other clients."""

import re
import socket
from contextlib import suppress

import pytest

from tests.support.running_gateway import (
    HEAD,
    KEY,
    RunningGateway,
    connect,
    receive_all,
)


def test_a_slow_body_times_out_with_408_and_other_clients_are_served(
    gateway: RunningGateway,
) -> None:
    with connect(gateway) as slow:
        slow.sendall(HEAD + b'Content-Length: 100\r\nConnection: close\r\n\r\n{"ev')
        assert gateway.post(KEY, b'{"event":"a"}').status == 202
        assert receive_all(slow).startswith(b"HTTP/1.1 408 ")


def test_other_clients_are_served_after_clients_disconnect_mid_request(
    gateway: RunningGateway,
) -> None:
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
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_broken_http_is_a_400(gateway: RunningGateway, request_bytes: bytes) -> None:
    with connect(gateway) as connection:
        connection.sendall(request_bytes)
        assert receive_all(connection).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in gateway.process.said()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v1/events?key=secret" + b"x" * 20_000, b"A URL may have at most 8,176 bytes"),
        (b"http://[::1?key=secret", b"URL in the request line is not valid"),
    ],
)
def test_the_error_for_an_invalid_url_does_not_quote_the_url(
    gateway: RunningGateway, target: bytes, expected: bytes
) -> None:
    with connect(gateway) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        received = receive_all(connection)
    assert expected in received
    assert b"secret" not in received


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"Cookie: " + b"x" * 9_000 + b"\r\n", b"A header may have at most 8,192 bytes"),
        (b"User-Agent: " + b"x" * 10_000 + b"\r\n", b"A header may have at most 8,192 bytes"),
        (b"x" * 9_000 + b": 1\r\n", b"A header may have at most 8,192 bytes"),
        (b"X-%d: 1\r\n" * 200 % tuple(range(200)), b"at most 128 headers"),
        (b"X: " + b"x" * 8_000 + b"\r\n", b""),
    ],
)
def test_too_large_request_headers_get_431_with_the_limit(
    gateway: RunningGateway, lines: bytes, expected: bytes
) -> None:
    with connect(gateway) as connection:
        connection.sendall(
            HEAD + lines + b'Connection: close\r\nContent-Length: 13\r\n\r\n{"event":"a"}'
        )
        received = receive_all(connection)
    assert received.startswith(b"HTTP/1.1 431 " if expected else b"HTTP/1.1 202 ")
    assert expected in received


def test_endless_request_headers_are_refused_by_their_total_size(gateway: RunningGateway) -> None:
    """The total size is limited, although each header and their number are within limits."""
    received = b""
    with connect(gateway) as connection:
        connection.sendall(HEAD)
        with suppress(OSError):  # it is closed while we send
            for number in range(60):
                connection.sendall(b"X-%d: %b\r\n" % (number, b"x" * 8_000))
        with suppress(OSError):
            received = receive_all(connection)
    if received:  # what was not read when it closed may have cost us the answer
        assert b" 431 " in received
        assert b"All headers together may have at most 32,768 bytes" in received
    assert gateway.post(KEY, b'{"event":"a"}').status == 202


@pytest.mark.parametrize("method", ["sendall", "in two"])
def test_a_client_that_half_closes_after_its_request_gets_an_answer(
    gateway: RunningGateway, method: str
) -> None:
    """The client sends a whole request and closes its sending half, as `nc -N` does."""
    sent = HEAD + b'Content-Length: 13\r\n\r\n{"event":"a"}'
    with connect(gateway) as connection:
        if method == "sendall":
            connection.sendall(sent)
        else:
            connection.sendall(sent[:-3])
            connection.sendall(sent[-3:])
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).startswith(b"HTTP/1.1 202 ")


def test_a_client_that_half_closes_gets_answers_to_all_its_complete_requests(
    gateway: RunningGateway,
) -> None:
    one = HEAD + b'Content-Length: 13\r\n\r\n{"event":"a"}'
    with connect(gateway) as connection:
        connection.sendall(one * 40 + HEAD)
        connection.shutdown(socket.SHUT_WR)
        received = receive_all(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"202"] * 40


def test_a_client_that_half_closes_within_a_body_gets_400_client_gone(
    gateway: RunningGateway,
) -> None:
    with connect(gateway) as connection:
        connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"ev')
        connection.shutdown(socket.SHUT_WR)
        received = receive_all(connection)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"client_gone" in received


def test_expect_continue_without_a_body_gets_no_100_continue(gateway: RunningGateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(
            HEAD + b"Content-Length: 0\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert receive_all(connection).startswith(b"HTTP/1.1 400 ")


def test_many_pipelined_requests_with_large_bodies_are_all_answered(
    gateway: RunningGateway,
) -> None:
    """The requests exceed the read-ahead, and each body exceeds what is parsed at once."""
    body = b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 40_000)
    one = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    with connect(gateway) as connection:
        connection.sendall(one * 30)
        connection.shutdown(socket.SHUT_WR)
        received = receive_all(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"202"] * 30


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def test_a_body_of_a_few_hundred_tiny_chunks_is_accepted(gateway: RunningGateway) -> None:
    body = b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 400)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    with connect(gateway) as connection:
        connection.sendall(CHUNKED + chunks)
        assert receive_all(connection).startswith(b"HTTP/1.1 202 ")


def test_many_tiny_chunks_are_refused(gateway: RunningGateway) -> None:
    """A body of thousands of tiny chunks is refused, because parsing it would take seconds."""
    with connect(gateway) as connection:
        connection.sendall(CHUNKED + b"1\r\nx\r\n" * 5_000)
        with suppress(ConnectionResetError):  # it is closed while we send
            assert b"its chunks have only a few bytes each" in receive_all(connection)
    assert gateway.post(KEY, b'{"event":"a"}').status == 202


def test_leading_zeros_of_a_content_length_are_ignored(gateway: RunningGateway) -> None:
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


def test_expect_continue_is_answered_with_100_continue(gateway: RunningGateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(
            HEAD + b"Content-Length: 13\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"event":"a"}')
        assert receive_all(connection).startswith(b"HTTP/1.1 202 ")


def test_an_http_1_0_request_closes_the_connection(gateway: RunningGateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        received = receive_all(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in received
