"""Copies lines to an output, each as JSON: `python -I -S json_lines.py SERVICE`, lines on standard input.

A process of its own, so that also the last words of a process that crashes are passed on. What is a JSON
object already passes as it is. Standard library alone: it starts in 20 ms and idles in a blocking read.
"""

import json
import os
import re
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime

# librdkafka's own lines: %LEVEL|SECONDS|FACILITY|CLIENT| MESSAGE, with syslog's levels
_LIBRDKAFKA = re.compile(r"%([0-7])\|([0-9.]+)\|(\w*)\|([^|]*)\| ?(.*)")
# the broker's, as deploy/kafka/log4j2.xml writes them
_LOG4J = re.compile(r"(\d{4}-\S+Z) (DEBUG|INFO|WARN|ERROR|FATAL) (\S+) (.*)")
_LEVELS = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
MAX_LINE_BYTES = 1 << 20


def as_json(line: bytes, service: str) -> bytes:
    """Return the line as a JSON object on one line, without its end."""
    if line.startswith(b"{"):
        with suppress(ValueError):
            json.loads(line)
            return line
    text = line.decode(errors="replace")
    event = {"service": service, "event": text, "level": "info"}
    event["timestamp"] = datetime.now(UTC).isoformat()
    if found := _LIBRDKAFKA.fullmatch(text):
        level, _, facility, client, said = found.groups()
        event |= {"event": said, "level": _LEVELS[int(level)], "logger": "librdkafka"}
        event |= {"facility": facility, "client": client}
    elif found := _LOG4J.fullmatch(text):
        time, level, logger, said = found.groups()
        level = {"WARN": "warning", "FATAL": "critical"}.get(level, level.lower())
        event |= {"event": said, "level": level, "logger": logger, "timestamp": time}
    return json.dumps(event).encode()


def main(service: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when nobody writes any more
    while line := sys.stdin.buffer.readline(MAX_LINE_BYTES):
        if said := line.rstrip(b"\r\n"):
            with suppress(OSError):  # a full disk, a reader that is gone: no reason to stop writers
                os.write(sys.stdout.fileno(), as_json(said, service) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
