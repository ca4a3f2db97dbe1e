"""Structured logs on stderr: `key=value` for terminals, JSON for machines. Never log event contents or secrets."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog


def configure(level: str = "INFO", form: str = "text") -> None:
    """Configure logging for the process; log records of libraries get the same format."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if form == "json":
        processors.append(structlog.processors.JSONRenderer(default=str))
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    # each line is one write, so that processes that share the output do not mix their lines
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, Unfailing(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    least = max(logging.WARNING, logging.getLevelName(level))
    logging.basicConfig(handlers=[_PassedOn()], level=least, force=True)


class Unfailing:
    """An output that ignores write errors (full disk, closed reader): a lost line must not stop the writer."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._output.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._output.flush()


class _PassedOn(logging.Handler):
    """Passes log records of the standard library's `logging` on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger().bind(logger=record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def get(service: str) -> Any:
    """Return a logger that adds the service's name to every line."""
    return structlog.get_logger().bind(service=service)
