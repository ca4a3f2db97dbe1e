"""Watchdog: end the process if a call that cannot be interrupted does not return."""

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def returning_within(seconds: float) -> Iterator[None]:
    """End the process with its stack on stderr (exit code 1) if the block takes longer.

    That is as safe as a crash, and a crash is safe everywhere: nothing uncommitted counts. It is needed
    because librdkafka's `send_offsets_to_transaction` ignores its timeout when the coordinator goes away
    during the call (confluentinc/librdkafka#5456), and confluent-kafka holds the interpreter lock meanwhile,
    so that no Python thread or signal handler can act. `faulthandler` does not need the interpreter.
    Only one block at a time in a process.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
