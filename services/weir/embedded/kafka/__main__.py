"""Run Apache Kafka on this machine, in the foreground."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from weir.embedded.errors import LocalFaultError
from weir.embedded.kafka.broker import Broker
from weir.embedded.kafka.class_archive import class_archive
from weir.embedded.kafka.kafka_download import resolve_jars
from weir.embedded.kafka.toolchain import find_java
from weir.embedded.ports import free_port, require_free
from weir.runtime import process
from weir.runtime.folder_lock import FolderInUseError, FolderLock
from weir.settings.embedded import BrokerSettings
from weir.settings.environment import SettingsError, load
from weir.settings.shared import CommonSettings, KafkaSettings


def prepare() -> list[str]:
    """Lock and format the data folder; return the broker's command. The broker inherits the lock."""
    common = load(CommonSettings, os.environ)
    process.configure(common, "kafka")
    port = load(KafkaSettings, os.environ).kafka_port
    heap = load(BrokerSettings, os.environ).kafka_heap_megabytes
    java = find_java()
    jars = asyncio.run(resolve_jars(lambda file: print(f"fetched {file}", file=sys.stderr)))
    require_free(port, "the Kafka broker", "WEIR_KAFKA_PORT")
    folder = Path(common.data_dir).resolve() / "kafka"
    FolderLock(folder, "broker.lock", inherit=True)
    classes = class_archive(java, jars)
    broker = Broker(java, jars, folder, port, free_port(), heap, classes)
    broker.write_properties()
    broker.format()
    return broker.command()


def main() -> int:
    """Become the broker: the process id stays, and SIGTERM shuts it down cleanly (exit code 143)."""
    process.begin("kafka")
    # until it becomes the broker: Maven and other programs that it runs end with it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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
