"""Rows are written and read over TLS with a password, and a refusal names the setting to check."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import records as rows
from tests.support.certificates import Authority
from tests.support.running import free_port, start_process, wait_until
from tests.support.running_warehouse import RunningWarehouse, start_warehouse
from weir.adapters.clickhouse.insert import ClickHouseRows, ClickHouseSchema
from weir.adapters.clickhouse.query import ClickHouse, ClickHouseRefusedError
from weir.runtime.sink_ports import Insert, WarehouseAwayError
from weir.settings.environment import SettingsError, load
from weir.settings.shared import ClickHouseSettings
from weir.sink.migrations import Dialect, apply_migrations

PASSWORD = "operators-password"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWarehouse]:
    folder = tmp_path_factory.mktemp("warehouse")
    running = start_warehouse(folder, settings={"WEIR_CLICKHOUSE_PASSWORD": PASSWORD})
    yield running
    running.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def port(
    warehouse: RunningWarehouse, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Where the warehouse is behind TLS."""
    made, port = authority.issue("clickhouse"), free_port()
    front = start_process(
        [
            *(sys.executable, "-m", "tests.support.tls_front"),
            *(str(port), str(warehouse.port), str(made.cert), str(made.key)),
        ],
        tmp_path_factory.mktemp("front") / "front.log",
    )
    try:
        wait_until(lambda: listens(port), 20, "the TLS front")
        yield port
    finally:
        front.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def settings(port: int, **given: str) -> ClickHouseSettings:
    environ = {
        "WEIR_CLICKHOUSE_URL": f"https://127.0.0.1:{port}",
        "WEIR_CLICKHOUSE_PASSWORD": PASSWORD,
        **given,
    }
    return load(ClickHouseSettings, environ)


def test_rows_are_inserted_and_read_over_tls_with_a_password(
    port: int, authority: Authority
) -> None:
    trusted = settings(port, WEIR_CLICKHOUSE_CA_FILE=str(authority.ca))
    apply_migrations(ClickHouseSchema(trusted), Dialect(trusted.clickhouse_database))
    sink = ClickHouseRows(trusted, 60, 2, compress=True)
    try:
        value = rows.resolved(1, "profile", "session")
        sink.insert(Insert("landing_events", value[:10], (value,), "token"))
    finally:
        sink.close()
    assert ClickHouse(trusted).records("SELECT count() AS n FROM weir.events") == [{"n": 1}]


def test_an_untrusted_server_certificate_is_refused(port: int, tmp_path: Path) -> None:
    for given in ({}, {"WEIR_CLICKHOUSE_CA_FILE": str(Authority(tmp_path).ca)}):
        with pytest.raises(ClickHouseRefusedError, match="set WEIR_CLICKHOUSE_CA_FILE"):
            ClickHouse(settings(port, **given))
    sink = ClickHouseRows(settings(port), 5, 1, compress=False)
    value = rows.resolved(1, "profile", "session")
    with pytest.raises(WarehouseAwayError):  # never sent, so tried again
        sink.insert(Insert("landing_events", value[:10], (value,), "token"))
    sink.close()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_an_untrusted_certificate_is_accepted_when_verification_is_off(port: int) -> None:
    unseen = settings(port, WEIR_CLICKHOUSE_VERIFY="false")
    assert ClickHouse(unseen).records("SELECT 1 AS n") == [{"n": 1}]


@pytest.mark.parametrize(
    "given", [{"WEIR_CLICKHOUSE_PASSWORD": "wrong-one"}, {"WEIR_CLICKHOUSE_USER": "nobody"}]
)
def test_a_wrong_clickhouse_user_or_password_is_reported_without_the_secret(
    port: int, authority: Authority, given: dict[str, str]
) -> None:
    with pytest.raises(ClickHouseRefusedError) as error:
        ClickHouse(settings(port, WEIR_CLICKHOUSE_CA_FILE=str(authority.ca), **given))
    assert "check WEIR_CLICKHOUSE_USER and WEIR_CLICKHOUSE_PASSWORD" in str(error.value)
    assert "wrong-one" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"URL": "https://weir:hidden@host"}, "must not contain user and password"),
        ({"URL": "host:8123"}, "must be like http://host:8123"),
        ({"CA_FILE": __file__}, "does nothing unless WEIR_CLICKHOUSE_URL is https"),
        ({"READER_USER": "default"}, "must not be WEIR_CLICKHOUSE_USER"),
    ],
)
def test_invalid_clickhouse_settings_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(ClickHouseSettings, {f"WEIR_CLICKHOUSE_{name}": text for name, text in given.items()})
    assert said in str(error.value)
    assert "hidden" not in str(error.value)
