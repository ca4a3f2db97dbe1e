"""Ends the process when a call that cannot be interrupted does not return."""

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def returning_within(seconds: float) -> Iterator[None]:
    """If the block takes longer, the process ends with its stack on stderr (exit code 1).

    That is safe wherever a crash is, which is everywhere: nothing uncommitted counts. It is needed since
    librdkafka's `send_offsets_to_transaction` ignores its timeout when the coordinator goes away in
    the middle (confluentinc/librdkafka#5456), and confluent-kafka keeps the interpreter locked meanwhile,
    so that no Python thread or signal handler could act. `faulthandler` needs no interpreter.
    One block at a time in a process.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
