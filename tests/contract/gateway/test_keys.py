"""Gateways follow API keys as they change, and need the secrets key to check signatures."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import signing
from tests.support.running import RunningKafka, ending_well, wait_until
from tests.support.running_gateway import RunningGateway, new_source, start_gateway
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.registry import ApiKey, Scope, Source, hash_key
from weir.registry.follower import KEY_KIND, key_entry, registry_key, source_entry
from weir.registry.secret_encryption import SecretEncryption, new_key

HOUR = 3_600_000


@pytest.fixture
def source(gateway: RunningGateway) -> str:
    return new_source(gateway)[0]


def made(gateway: RunningGateway, source: str, scope: Scope, ends_at: int = 0) -> str:
    """In the registry on return, as `weir keys create` leaves it there."""
    plain = f"weir_{scope[0]}_{source}_{ends_at}"
    key = ApiKey(
        digest=hash_key(plain), source=source, scope=scope, created_at=now_ms(), ends_at=ends_at
    )
    write_entries(gateway.kafka, topics.REGISTRY, [key_entry(key)])
    return plain


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_gateway_accepts_a_new_key_and_rejects_it_after_its_deletion(
    gateway: RunningGateway, source: str
) -> None:
    key = made(gateway, source, "write", now_ms() + HOUR)
    wait_until(lambda: gateway.knows(key), 10, "the key")
    assert gateway.post(key, b'{"event": "hello"}').status == 202
    gone = registry_key(KEY_KIND, hash_key(key)), None
    write_entries(gateway.kafka, topics.REGISTRY, [gone])
    wait_until(lambda: not gateway.knows(key), 10, "the key to go")
    assert gateway.post(key, b'{"event": "hello"}').status == 401


def test_an_expired_key_is_rejected_with_the_reason(gateway: RunningGateway, source: str) -> None:
    key = made(gateway, source, "write", now_ms() + 1_500)
    wait_until(lambda: not gateway.knows(key), 10, "the key's end")
    wait_until(lambda: "ended at" in refusal(gateway, key), 10, "the reason")
    answer = gateway.post(key, b'{"event": "hello"}')
    assert answer.status == 401
    assert key not in answer.body.decode()


def refusal(gateway: RunningGateway, key: str) -> str:
    return str(gateway.post(key, b'{"event": "hello"}').json().get("detail"))


@pytest.mark.parametrize(
    ("scope", "sends", "reads", "administers"),
    [("write", 202, 403, 403), ("read", 401, 200, 403), ("admin", 401, 200, 201)],
)
def test_a_key_allows_only_the_requests_of_its_scope(
    gateway: RunningGateway, source: str, scope: Scope, sends: int, reads: int, administers: int
) -> None:
    key = made(gateway, source, scope)
    path, headers = f"/api/sites/{source}/goals", {"X-Weir-Key": key}
    goal = b'{"name": "Signup", "type": "event", "value": "signup"}'
    wait_until(lambda: gateway.ask("GET", path, None, headers).status != 401, 10, "the key")
    assert gateway.ask("GET", path, None, headers).status == reads
    assert gateway.ask("POST", path, goal, headers).status == administers
    assert gateway.post(key, b'{"event": "x"}').status == sends


@pytest.fixture(scope="module")
def readers_key() -> str:
    return new_key()


@pytest.fixture(scope="module")
def reading(
    gateway: RunningGateway,
    kafka: RunningKafka,
    tmp_path_factory: pytest.TempPathFactory,
    readers_key: str,
) -> Iterator[RunningGateway]:
    """A gateway that has the key of the registry's secrets; the session's has none."""
    folder: Path = tmp_path_factory.mktemp("reading")
    running = start_gateway(kafka.bootstrap, folder, WEIR_SECRETS_KEY=readers_key)
    with ending_well(running.process):
        yield running


def test_signed_requests_get_503_from_a_gateway_without_the_secrets_key(
    gateway: RunningGateway, reading: RunningGateway, source: str, readers_key: str
) -> None:
    workspace, secret = f"workspace-of-{source}", "a-secret-of-theirs"
    signed = Source(
        id=source,
        write_key_hashes=(hash_key(workspace),),
        signing_secrets=(secret,),
        unsigned_doors=("events",),
    )
    entry = source_entry(SecretEncryption((readers_key,)).sealed(signed))
    write_entries(gateway.kafka, topics.REGISTRY, [entry])
    body, path = b'{"event": "hello", "distinct_id": "ada"}', "/v2/event/"

    def sent(to: RunningGateway, secret: str) -> int:
        headers = signing.suprsend("POST", path, body, workspace, secret)
        return to.ask("POST", path, body, headers).status

    for one in (gateway, reading):
        wait_until(lambda one=one: one.knows(workspace), 10, "the source")  # type: ignore[misc]
    assert (sent(reading, secret), sent(reading, "another-secret")) == (202, 401)
    assert sent(gateway, secret) == 503
    assert gateway.post(workspace, b'{"event": "hello"}').status == 202  # all else goes on
    assert "set WEIR_SECRETS_KEY" in gateway.process.said()
    assert secret not in gateway.process.said() + reading.process.said()
