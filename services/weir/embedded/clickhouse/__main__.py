"""`python -m weir.embedded.clickhouse`: run the embedded ClickHouse in the foreground."""

import asyncio
import os
import signal
import sys
from contextlib import suppress

from aiohttp import web

from weir.embedded.clickhouse.app import ClickHouseServer
from weir.embedded.clickhouse.engine import Engine
from weir.embedded.clickhouse.requests import Access
from weir.runtime import logs, process
from weir.runtime.browser_requests import is_loopback
from weir.runtime.folder_lock import FolderInUseError
from weir.settings.embedded_clickhouse import WarehouseSettings
from weir.settings.environment import SettingsError, load
from weir.settings.shared import ClickHouseSettings, CommonSettings

_OPEN_TO_ALL = (
    "WEIR_HOST={host} would open ClickHouse to other machines without a password: set "
    "WEIR_CLICKHOUSE_PASSWORD, or leave WEIR_HOST at 127.0.0.1."
)


async def serve(
    common: CommonSettings, clickhouse: ClickHouseSettings, settings: WarehouseSettings
) -> int:
    """Serve requests until SIGTERM or SIGINT; return 0 if every running insert could finish, else 1."""
    log = logs.get("warehouse")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder = common.data_dir / "clickhouse"
    engine = await asyncio.to_thread(Engine, folder, settings, clickhouse.clickhouse_database)
    access = Access(
        clickhouse.clickhouse_user,
        clickhouse.clickhouse_password,
        clickhouse.clickhouse_reader_user,
        clickhouse.clickhouse_reader_password,
    )
    warehouse = ClickHouseServer(engine, settings, access)
    # The server decompresses bodies itself, and limits their decompressed size.
    runner = web.AppRunner(
        warehouse.application(),
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    settled = True
    try:
        site = web.TCPSite(runner, common.host, clickhouse.clickhouse_port)
        await site.start()
        log.info("ready", host=common.host, port=clickhouse.clickhouse_port, folder=str(folder))
        refreshing = asyncio.create_task(warehouse.refresh_dictionaries())
        await stop.wait()
        log.info("stopping")
        await site.stop()
        refreshing.cancel()
        with suppress(asyncio.CancelledError):
            await refreshing
        settled = await warehouse.drain()
    finally:
        await runner.cleanup()
        warehouse.close()
        engine.close()
    if not settled:
        log.error("stopped while inserts were still running")
    return 0 if settled else 1


def main() -> int:
    """Run until stopped. Return 0 after a graceful stop, else 1; a known reason is printed as one sentence."""
    process.begin("warehouse")
    try:
        common = load(CommonSettings, os.environ)
        clickhouse = load(ClickHouseSettings, os.environ)
        settings = load(WarehouseSettings, os.environ)
    except SettingsError as fault:
        print(fault, file=sys.stderr)
        return 1
    process.configure(common, "warehouse")
    if not is_loopback(common.host) and not clickhouse.clickhouse_password:
        print(_OPEN_TO_ALL.format(host=common.host), file=sys.stderr)
        return 1
    try:
        return asyncio.run(serve(common, clickhouse, settings))
    except (FolderInUseError, OSError) as fault:
        print(fault, file=sys.stderr)
        return 1
    except Exception:  # noqa: BLE001  # logged, whatever it is; then the process ends
        logs.get("warehouse").exception("ended by a fault")
        return 1


if __name__ == "__main__":
    sys.exit(main())
