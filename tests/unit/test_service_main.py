"""A service that fails ends with the exit code and the message of its fault."""

import pytest

from weir.runtime import logs
from weir.runtime.ports import FencedError, StreamBrokenError
from weir.runtime.recovery_limit import RecoveryFailedError
from weir.service_main import ending_clearly


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (FencedError("static member fenced"), 1, "another process has taken this instance's slot"),
        (RecoveryFailedError("6 recoveries in 150 s"), 75, "recovery inside the process failed"),
        (StreamBrokenError("no coordinator"), 1, "Kafka does not answer, or topics are missing"),
        (RuntimeError("a bug"), 1, "ended by a fault"),
    ],
)
def test_a_fault_ends_the_service_with_its_exit_code_and_message(
    capsys: pytest.CaptureFixture[str], fault: Exception, code: int, words: str
) -> None:
    with pytest.raises(SystemExit) as ended, ending_clearly(logs.get("dedup"), "127.0.0.1:1"):
        raise fault
    assert ended.value.code == code
    said = "".join(capsys.readouterr())
    assert words in said
    assert str(fault) in said
    assert ("slot" in said) is isinstance(fault, FencedError)
