"""A real gateway enforces rate limits and quotas."""

import time
import uuid

from tests.support.running import wait_until
from tests.support.running_gateway import (
    KEY,
    HttpAnswer,
    RunningGateway,
    TopicReader,
    declare,
    new_source,
    write_quota,
)
from weir.adapters import avro
from weir.core.registry import Quota, Source

ACCEPTED = avro.schemas()["Accepted"]


def test_browser_sources_are_limited_by_client_address(gateway: RunningGateway) -> None:
    _, key = new_source(gateway, kind="browser")

    def status(client: str) -> int:
        return gateway.post(key, b'{"event":"a"}', **{"X-Forwarded-For": client}).status

    answers: list[HttpAnswer] = []

    def is_limited() -> bool:
        answer = gateway.post(key, b'{"event":"a"}', **{"X-Forwarded-For": "203.0.113.1"})
        if answer.status == 429:
            answers.append(answer)
        return answer.status == 429

    wait_until(is_limited, 10, "the limit")
    assert answers[0].json()["code"] == "client_rate_limited"
    assert int(answers[0].headers["Retry-After"]) >= 1
    assert status("203.0.113.2") == 202  # another client is not concerned
    wait_until(lambda: status("203.0.113.1") == 202, 10, "the bucket to fill")


def test_server_sources_are_not_limited_by_address(gateway: RunningGateway) -> None:
    assert {gateway.post(KEY, b'{"event":"a"}').status for _ in range(20)} == {202}


def test_a_source_over_its_own_event_rate_gets_429_with_retry_after(
    gateway: RunningGateway,
) -> None:
    _, key = new_source(gateway, events_per_second=10.0, events_burst=20)
    batch = b"[" + b",".join([b'{"event":"a"}'] * 50) + b"]"
    assert gateway.post(key, batch).status == 202  # into debt, once
    answer = gateway.post(key, batch)
    assert (answer.status, answer.json()["code"]) == (429, "source_rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 5


def test_a_quota_refuses_until_its_period_ends(gateway: RunningGateway) -> None:
    quota = Quota(name="plan", period="hour", limit=10)
    source, key = new_source(gateway, quotas=(quota,))
    bootstrap = gateway.kafka.bootstrap()
    assert gateway.post(key, b'{"event":"a"}').status == 202  # no state: open
    resets_at = int(time.time() * 1000) + 6_000
    write_quota(bootstrap, source, name="plan", used=10, exceeded=True, resets_at=resets_at)
    wait_until(
        lambda: gateway.post(key, b'{"event":"a"}').status == 429, 2, "the quota, within 2 s"
    )
    answer = gateway.post(key, b'{"event":"a"}')
    assert answer.json()["code"] == "quota_exceeded"
    assert "'plan'" in answer.json()["detail"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 6
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 202, 10, "the period's end")
    assert int(time.time() * 1000) >= resets_at


def test_a_raised_quota_limit_applies_at_once(gateway: RunningGateway) -> None:
    source, key = new_source(gateway, quotas=(Quota(name="plan", period="hour", limit=10),))
    bootstrap = gateway.kafka.bootstrap()
    later = int(time.time() * 1000) + 3_600_000
    write_quota(bootstrap, source, name="plan", used=10, exceeded=True, resets_at=later)
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 429, 2, "the quota")
    declare(
        bootstrap, key, Source(id=source, quotas=(Quota(name="plan", period="hour", limit=99),))
    )
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 202, 5, "the new limit")


def test_an_exceeded_quota_with_action_mark_only_marks_events(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    quota = Quota(name="plan", period="hour", limit=10, action="mark")
    source, key = new_source(gateway, quotas=(quota,))
    later = int(time.time() * 1000) + 3_600_000
    write_quota(
        gateway.kafka.bootstrap(),
        source,
        name="plan",
        used=11,
        exceeded=True,
        resets_at=later,
        action="mark",
    )

    def is_marked() -> bool:
        answer = gateway.post(key, b'{"event":"a"}')
        assert answer.status == 202
        event_id = uuid.UUID(answer.json()["event_ids"][0]).bytes
        [record] = accepted.wait_for(lambda r: r.value[10:26] == event_id, 1)
        return bool(ACCEPTED.decode(record.value)["over_quota"])

    wait_until(is_marked, 5, "the mark")


def test_the_client_address_and_agent_are_kept(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "User-Agent": "x" * 600}
    answer = gateway.post(KEY, b'{"event":"a"}', **headers)
    event_id = uuid.UUID(answer.json()["event_ids"][0]).bytes
    [record] = accepted.wait_for(lambda r: r.value[10:26] == event_id, 1)
    event = ACCEPTED.decode(record.value)
    assert (event["ip"], event["user_agent"]) == ("198.51.100.7", "x" * 512)
