"""`python -m services.local.kafka`: Apache Kafka on this machine, in the foreground."""

import asyncio
import os
import sys
from pathlib import Path

from services.local.broker import Broker
from services.local.config import BrokerSettings
from services.local.faults import LocalFaultError
from services.local.jars import resolve_jars
from services.local.ports import free_port, require_free
from services.local.toolchain import find_java
from services.runtime import process
from services.runtime.config import CommonSettings, KafkaSettings
from services.runtime.lock import FolderInUseError, FolderLock
from services.runtime.settings import SettingsError, load


def prepare() -> list[str]:
    """A formatted folder, locked for this process and what it becomes; returns the broker's command."""
    common = load(CommonSettings, os.environ)
    process.settle(common, "kafka")
    port = load(KafkaSettings, os.environ).kafka_port
    heap = load(BrokerSettings, os.environ).kafka_heap_megabytes
    java = find_java()
    jars = asyncio.run(resolve_jars(lambda file: print(f"fetched {file}", file=sys.stderr)))
    require_free(port, "the Kafka broker", "WEIR_KAFKA_PORT")
    folder = Path(common.data_dir).resolve() / "kafka"
    FolderLock(folder, "broker.lock", inherit=True)
    broker = Broker(java, jars, folder, port, free_port(), heap)
    broker.write_properties()
    broker.format()
    return broker.command()


def main() -> int:
    """Become the broker: the process id stays, SIGTERM shuts down cleanly (exit code 143)."""
    process.begin("kafka")
    try:
        command = prepare()
        os.execv(command[0], command)
    except SettingsError as fault:
        print(fault, file=sys.stderr)
        return 2
    except (LocalFaultError, FolderInUseError) as fault:
        print(fault, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
