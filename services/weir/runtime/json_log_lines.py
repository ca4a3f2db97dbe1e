"""Copy lines from standard input to standard output as JSON: `python -I -S json_log_lines.py SERVICE`.

It is a separate process, so that the last lines of a crashing process are passed on too. A line that is a
JSON object already is copied unchanged. It uses only the standard library: it starts in 20 ms and idles in a
blocking read.
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
# the broker's lines, as deploy/kafka/log4j2.xml formats them
_LOG4J = re.compile(r"(\d{4}-\S+Z) (DEBUG|INFO|WARN|ERROR|FATAL) (\S+) (.*)")
_LEVELS = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
MAX_LINE_BYTES = 1 << 20


def as_json(line: bytes, service: str) -> bytes:
    """Return the line as a JSON object on one line, without the line end."""
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
        signal.signal(number, signal.SIG_IGN)  # it ends when no process can write to the pipe
    while line := sys.stdin.buffer.readline(MAX_LINE_BYTES):
        if said := line.rstrip(b"\r\n"):
            with suppress(OSError):  # a full disk or a closed reader must not stop the writers
                os.write(sys.stdout.fileno(), as_json(said, service) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
