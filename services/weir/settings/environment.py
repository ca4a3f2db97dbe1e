"""Settings from environment variables: read once, checked all together, documented where they are declared.

A service declares a frozen dataclass whose fields are made with `setting()`. The field `kafka_bootstrap`
is read from `WEIR_KAFKA_BOOTSTRAP`. Several services may share a dataclass.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "WEIR_"
TRUE_WORDS = {"1", "true", "yes", "on"}
FALSE_WORDS = {"0", "false", "no", "off"}

T = TypeVar("T")


class SettingsError(Exception):
    """The settings are invalid. The text has one fault a line, each with what to set instead."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def setting(
    default: Any,
    meaning: str,
    unit: str = "",
    *,
    secret: bool = False,
    check: Callable[[Any], str | None] | None = None,
    alias: str = "",
    is_flag: bool = False,
) -> Any:
    """Declare a setting: its default, its meaning and its unit. `check` returns what is wrong with a value, or None.

    `alias`: another product's variable, read if Weir's own is not set. `is_flag`: also a command-line option.
    """
    metadata = {
        "meaning": meaning,
        "unit": unit,
        "secret": secret,
        "check": check,
        "alias": alias,
        "is_flag": is_flag,
    }
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def at_least(low: float) -> Callable[[Any], str | None]:
    return lambda value: None if value >= low else f"must be at least {low:g}, not {value}"


def between(low: float, high: float) -> Callable[[Any], str | None]:
    return lambda value: (
        None if low <= value <= high else f"must be from {low} to {high}, not {value}"
    )


def variable(field_name: str) -> str:
    """Return the environment variable of a field: `kafka_bootstrap` -> `WEIR_KAFKA_BOOTSTRAP`."""
    return PREFIX + field_name.upper()


def flag(field_name: str) -> str:
    """Return the command-line option of a field: `ingest_rate` -> `--ingest-rate`."""
    return "--" + field_name.replace("_", "-")


def flags_of(cls: type) -> dict[str, str]:
    """Return the meaning of each field that is also a command-line option, by field name."""
    return {
        field.name: field.metadata["meaning"]
        for field in dataclasses.fields(cls)
        if field.metadata.get("is_flag")
    }


def known_variables(classes: Iterable[type]) -> set[str]:
    return {variable(f.name) for cls in classes for f in dataclasses.fields(cls)}


def unknown_variables(environ: Mapping[str, str], classes: Iterable[type]) -> list[str]:
    """Return a fault for every `WEIR_*` variable that no setting reads: a typo must not go unnoticed."""
    known = known_variables(classes)
    return [
        f"{name}: no such setting; `weir settings` lists them all"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    ]


def load(cls: type[T], environ: Mapping[str, str]) -> T:
    """Read `cls` from the environment; `SettingsError` lists all faults of single fields.

    A class may have a method `faults`, which returns faults in the combination of its fields. It is
    called once every field is valid on its own.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is a dataclass by contract
        name = variable(field.name)
        if name not in environ:
            name = field.metadata.get("alias", "")
        text = environ.get(name)
        if text is None:
            continue
        try:
            value = _parse(text, hints[field.name])
        except ValueError as fault:
            shown = "(hidden)" if field.metadata.get("secret") else repr(text)
            faults.append(f"{name}={shown}: {fault}")
            continue
        check = field.metadata.get("check")
        wrong = check(value) if check is not None else None
        if wrong:
            faults.append(f"{name}: {wrong}")
        values[field.name] = value
    if faults:
        raise SettingsError(faults)
    settings = cls(**values)
    # faults in the combination of fields
    if faults := getattr(settings, "faults", list)():
        raise SettingsError(faults)
    return settings


def _parse(text: str, kind: Any) -> Any:
    if isinstance(kind, types.UnionType):  # "X | None": empty text is None
        if text == "":
            return None
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if kind is str:
        return text
    if kind is Path:
        return Path(text).expanduser()
    if kind is bool:
        return _parse_bool(text)
    if kind is int:
        return _parse_number(text, int, "a whole number")
    if kind is float:
        return _parse_number(text, float, "a number")
    if typing.get_origin(kind) is tuple:  # tuple[str, ...]: comma-separated
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if typing.get_origin(kind) is dict:  # dict[str, str]: key=value, comma-separated
        return _parse_map(text)
    raise TypeError(f"settings cannot be of type {kind}")


def _parse_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError("must be true or false")


def _parse_number(text: str, kind: Callable[[str], Any], name: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be {name}") from None


def _parse_map(text: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = part.partition("=")
        if not separator:
            raise ValueError("must be key=value pairs, separated by commas")
        pairs[key.strip()] = value.strip()
    return pairs
