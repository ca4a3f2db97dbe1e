"""A command retries transient errors until its patience ends and stops at once for permanent ones."""

import click
import pytest
from confluent_kafka import KafkaError

from weir.adapters.clickhouse.query import ClickHouseRefusedError
from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.admin import KafkaRefusedError
from weir.cli import retrying
from weir.cli.base import UnreachableError
from weir.cli.retrying import with_retries


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("WEIR_COMMAND_PATIENCE", "60")


class Work:
    """Fails as often as it has faults."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return "done"


@pytest.mark.parametrize(
    "fault",
    [
        UnavailableError("Kafka does not answer."),
        KafkaRefusedError(KafkaError(KafkaError.NOT_COORDINATOR)),
        KafkaRefusedError(KafkaError(KafkaError._TIMED_OUT)),
        ClickHouseRefusedError("too many simultaneous queries", passing=True),
    ],
)
def test_a_transient_error_is_retried_and_reported_once(
    fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work(fault, fault)
    assert with_retries(work) == "done"
    assert work.calls == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        f"{fault} Trying again for 60 s.",
        "Connected again, continuing.",
    ]


@pytest.mark.parametrize(
    "fault",
    [
        RefusedError("no such table"),
        KafkaRefusedError(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)),
        ClickHouseRefusedError("syntax error"),
    ],
)
def test_a_permanent_error_ends_the_command_without_a_retry(fault: Exception) -> None:
    work = Work(fault)
    with pytest.raises(click.ClickException, match=str(fault)):
        with_retries(work)
    assert work.calls == 1


def test_a_lasting_error_ends_the_command_with_exit_code_3_after_the_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEIR_COMMAND_PATIENCE", "0.01")
    work = Work(*[UnavailableError("Kafka does not answer.")] * 1_000)
    with pytest.raises(UnreachableError) as ended:
        with_retries(work)
    assert ended.value.exit_code == 3
    assert ended.value.message == (
        "Kafka does not answer. Gave up after 0.01 s; the command can be run again."
    )
    assert work.calls >= 2


def test_a_patience_of_zero_disables_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_COMMAND_PATIENCE", "0")
    with pytest.raises(UnreachableError) as ended:
        with_retries(Work(UnavailableError("Kafka does not answer.")))
    assert ended.value.message == "Kafka does not answer."
