"""A command waits for a broker that hangs, and then does its work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.running import RunningKafka, bare_environ
from weir.core.resource_paths import DEPLOY


def test_a_command_succeeds_after_the_broker_hangs_for_a_while(
    kafka: RunningKafka, tmp_path: Path
) -> None:
    environ = bare_environ(WEIR_KAFKA_BOOTSTRAP=kafka.bootstrap, WEIR_DATA_DIR=str(tmp_path))
    os.killpg(kafka.pid, signal.SIGSTOP)
    try:
        command = subprocess.Popen(
            [sys.executable, "-m", "weir.cli.main", "topics", "list"],
            cwd=DEPLOY.parent,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert command.stderr is not None
        line = command.stderr.readline()  # it has met the fault
    finally:
        os.killpg(kafka.pid, signal.SIGCONT)
    output, rest = command.communicate(timeout=60)
    assert line.startswith("Kafka does not answer at")
    assert line.rstrip().endswith("Trying again for 30 s.")
    assert command.returncode == 0, rest
    assert rest == "Connected again, continuing.\n"
    assert output.split()[:2] == ["topic", "partitions"]
