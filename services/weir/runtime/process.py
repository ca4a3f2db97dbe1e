"""Process setup: file permissions and log format, before settings are read or anything is written."""

import atexit
import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from weir.runtime import json_log_lines, logs
from weir.runtime.private_files import UMASK, keep_private
from weir.settings.shared import CommonSettings

FLUSH_SECONDS = 5.0
_begun = threading.Event()


def begin(service: str, outputs: tuple[int, ...] = (1, 2)) -> None:
    """Restrict new files to their owner; with WEIR_LOG_FORMAT=json, make every output line JSON.

    That includes lines of C libraries, of threads, of the interpreter and of a crash. The setting is read
    here without a check, so that even faults in other settings are logged as JSON.
    `outputs`: the file descriptors to convert. With JSON, a second call changes nothing.
    """
    os.umask(UMASK)
    if os.environ.get("WEIR_LOG_FORMAT") != "json" or _begun.is_set():
        return
    _begun.set()
    _pass_output_on(service, outputs)
    logs.configure(form="json")  # until the settings are read
    _log_faults(service)


def configure(common: CommonSettings, service: str) -> None:
    """Configure logs from the settings, and restrict the data folder to its owner. Call it once settings are read."""
    logs.configure(common.log_level, common.log_format)
    if warning := keep_private(common.data_dir):
        logs.get(service).warning(warning)


def _pass_output_on(service: str, outputs: tuple[int, ...]) -> None:
    """Redirect the outputs into a pipe to a process that writes each line as JSON to standard error."""
    reading, writing = os.pipe()
    relay = subprocess.Popen(
        [sys.executable, "-I", "-S", str(json_log_lines.__file__), service],
        stdin=reading,
        stdout=2,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that it survives a signal to this process group
    )
    before = os.dup(2)
    for output in outputs:
        os.dup2(writing, output)
    os.close(reading)
    os.close(writing)
    owner = os.getpid()

    def end() -> None:
        if os.getpid() != owner:
            return
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        for output in outputs:
            os.dup2(before, output)
        with suppress(subprocess.TimeoutExpired):  # a child of this process may still write to it
            relay.wait(FLUSH_SECONDS)

    atexit.register(end)


def _log_faults(service: str) -> None:
    """Log each uncaught exception, in any thread, as one line with its stack; log warnings as lines too."""
    log = logs.get(service)

    def log_fault(
        words: str, kind: type[BaseException], value: BaseException | None, trace: Any
    ) -> None:
        log.error(words, exc_info=(kind, value if value is not None else kind(), trace))

    def ended(kind: type[BaseException], value: BaseException, trace: Any) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            log_fault("ended by a fault", kind, value, trace)

    def thread_ended(raised: threading.ExceptHookArgs) -> None:
        words = "a thread ended by a fault"
        log_fault(words, raised.exc_type, raised.exc_value, raised.exc_traceback)

    def not_raised(raised: "sys.UnraisableHookArgs") -> None:
        words = "a fault that could not be raised"
        log_fault(words, raised.exc_type, raised.exc_value, raised.exc_traceback)

    sys.excepthook = ended
    threading.excepthook = thread_ended
    sys.unraisablehook = not_raised
    logging.captureWarnings(True)
