"""Run several gateway processes on one port: they start and stop together, and none is left behind."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def run_together(count: int, serve: Callable[[], None]) -> int:
    """Run `serve` in `count` child processes until all have ended; return 1 if any failed, else 0.

    SIGHUP is passed on to the children, SIGINT and SIGTERM as SIGTERM. When one child ends, the others get
    SIGTERM: so the supervisor restarts all, instead of going on with fewer. Call it before there are threads.
    """
    children: set[int] = set()

    def pass_on(number: int, _frame: FrameType | None = None) -> None:
        for child in children:
            os.kill(child, signal.SIGHUP if number == signal.SIGHUP else signal.SIGTERM)

    # Block the signals until the handlers know all children.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    for _ in range(count):
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
            _serve_and_exit(serve)
        children.add(child)
    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    worst = 0
    while children:
        ended, status = os.wait()
        if ended in children:
            children.discard(ended)
            worst = max(worst, os.waitstatus_to_exitcode(status) and 1)
            pass_on(signal.SIGTERM)
    return worst


def _serve_and_exit(serve: Callable[[], None]) -> None:
    code = 1
    try:
        serve()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)
