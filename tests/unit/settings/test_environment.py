"""Settings are read from the environment; all faults and unknown variables are reported at once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from weir.settings.catalogue import ALL_SETTINGS
from weir.settings.environment import (
    SettingsError,
    at_least,
    flags_of,
    load,
    setting,
    unknown_variables,
)
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import KafkaSettings


@dataclass(frozen=True)
class Example:
    port: int = setting(8080, "where it listens")
    rate: float = setting(0.5, "how fast", "1/s", check=at_least(0))
    folder: Path = setting(Path("."), "where it is")
    on: bool = setting(False, "whether")
    names: tuple[str, ...] = setting((), "which")
    options: dict[str, str] | None = setting(None, "more", secret=True)
    burst: int = setting(40, "how much", check=at_least(1), alias="OTHER_BURST", is_flag=True)


def test_unset_variables_keep_their_defaults() -> None:
    assert load(Example, {}) == Example()


def test_every_type_of_setting_is_read() -> None:
    environ = {
        "WEIR_PORT": "1",
        "WEIR_RATE": "2.5",
        "WEIR_FOLDER": "/x",
        "WEIR_ON": "yes",
        "WEIR_NAMES": "a, b,",
        "WEIR_OPTIONS": "k=v, l=w=x",
    }
    expected = Example(1, 2.5, Path("/x"), True, ("a", "b"), {"k": "v", "l": "w=x"})
    assert load(Example, environ) == expected


def test_all_invalid_settings_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, {"WEIR_PORT": "x", "WEIR_RATE": "-1", "WEIR_ON": "maybe"})
    faults = "\n".join(caught.value.faults)
    assert "WEIR_PORT='x': must be a whole number" in faults
    assert "WEIR_RATE: must be at least 0, not -1.0" in faults
    assert "WEIR_ON='maybe': must be true or false" in faults


def test_a_secret_setting_is_never_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, {"WEIR_OPTIONS": "sasl.password"})
    assert "sasl.password" not in str(caught.value)
    assert "hunter2" not in repr(Example(options={"sasl.password": "hunter2"}))


def test_an_unknown_weir_variable_is_a_fault() -> None:
    faults = unknown_variables({"WEIR_PROT": "1", "WEIR_PORT": "1", "HOME": "/"}, [Example])
    assert len(faults) == 1
    assert faults[0].startswith("WEIR_PROT:")


def test_an_alias_is_read_when_the_weir_variable_is_not_set() -> None:
    assert load(Example, {"OTHER_BURST": "7"}).burst == 7
    assert load(Example, {"OTHER_BURST": "7", "WEIR_BURST": "8"}).burst == 8
    with pytest.raises(SettingsError, match=r"^OTHER_BURST: must be at least 1, not 0$"):
        load(Example, {"OTHER_BURST": "0"})


def test_only_settings_declared_as_flags_become_flags() -> None:
    assert flags_of(Example) == {"burst": "how much"}


def test_hitkeeps_variables_apply_unless_weirs_own_are_set() -> None:
    theirs = {"HITKEEP_INGEST_RATE_LIMIT": "2.5", "HITKEEP_INGEST_BURST": "3"}
    settings = load(GatewaySettings, theirs)
    assert (settings.ingest_rate, settings.ingest_burst) == (2.5, 3)
    settings = load(GatewaySettings, theirs | {"WEIR_INGEST_RATE": "9", "WEIR_INGEST_BURST": "8"})
    assert (settings.ingest_rate, settings.ingest_burst) == (9, 8)
    settings = load(GatewaySettings, {})
    assert (settings.ingest_rate, settings.ingest_burst) == (20, 40)


@pytest.mark.parametrize("cls", ALL_SETTINGS)
def test_every_setting_has_a_description_and_a_valid_default(cls: type) -> None:
    for field in cls.__dataclass_fields__.values():  # type: ignore[attr-defined]
        assert field.metadata["meaning"], field.name
    load(cls, {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SECURITY_PROTOCOL": "SSL", "BOOTSTRAP": ""}, "set WEIR_KAFKA_BOOTSTRAP"),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "needs WEIR_KAFKA_USERNAME and WEIR_KAFKA_PASSWORD"),
        ({"PASSWORD": "hidden"}, "do nothing with WEIR_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"CA_FILE": __file__}, "do nothing with WEIR_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"SECURITY_PROTOCOL": "SSL", "KEY_FILE": __file__}, "one needs the other"),
        ({"SECURITY_PROTOCOL": "SSL", "CA_FILE": "/nowhere.pem"}, "there is no such file"),
        ({"SECURITY_PROTOCOL": "ssl"}, "must be one of PLAINTEXT, SSL"),
    ],
)
def test_contradictory_kafka_settings_are_rejected(given: dict[str, str], said: str) -> None:
    environ = {
        f"WEIR_KAFKA_{name}": value for name, value in ({"BOOTSTRAP": "b:1"} | given).items()
    }
    with pytest.raises(SettingsError) as error:
        load(KafkaSettings, environ)
    assert said in str(error.value)
    assert "hidden" not in str(error.value)
