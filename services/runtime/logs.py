"""Structured logs on stderr: `key=value` for a terminal, JSON for machines. Never an event's content or a secret."""

import logging
import sys
from typing import Any

import structlog


def configure(level: str = "INFO", form: str = "text") -> None:
    """Set up logging for the process, once, in `__main__`."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if form == "json":
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get(service: str) -> Any:
    """A logger that names its service in every line."""
    return structlog.get_logger().bind(service=service)
