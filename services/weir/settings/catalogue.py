"""All settings classes, for the check for unknown `WEIR_*` variables and for docs/settings.md."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import weir.settings
from weir.settings.environment import SettingsError, unknown_variables

SHARED = "weir.settings.shared"


def _settings_classes() -> Iterator[type[Any]]:
    """Yield every dataclass of this package whose name ends with `Settings`: what services share first."""
    modules = {
        module.name for module in pkgutil.iter_modules(weir.settings.__path__, "weir.settings.")
    }
    for name in sorted(modules - {__name__}, key=lambda name: (name != SHARED, name)):
        for value in vars(importlib.import_module(name)).values():
            if (
                isinstance(value, type)
                and dataclasses.is_dataclass(value)
                and value.__module__ == name
                and value.__name__.endswith("Settings")
            ):
                yield value


ALL_SETTINGS: tuple[type[Any], ...] = tuple(_settings_classes())


def require_known_variables(environ: Mapping[str, str]) -> None:
    """Raise a `SettingsError` that lists the `WEIR_*` variables that no setting reads."""
    if faults := unknown_variables(environ, ALL_SETTINGS):
        raise SettingsError(faults)
