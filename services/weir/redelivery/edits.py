"""Edit JSON by assignments to paths, such as `properties.price=12.5`. Pure.

A path consists of names and indexes: `a.b`, `a["odd name"]`, `a[0].b`, optionally after `$.`. Only the members
on the path are decoded; all others keep their bytes, so no number changes its digits.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw

PathStep = str | int
Path = tuple[PathStep, ...]
T = TypeVar("T")

_STEP = re.compile(r'\.?([^\s.\[\]="]+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]')
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


class PathError(ValueError):
    """A path or an assignment has invalid syntax; the text says what to correct."""


class NoSuchPathError(ValueError):
    """The document does not have the path; the text names the part that is missing."""


class Edit(NamedTuple):
    """One edit: set the member at `path` to `value` (the text as given); None: remove the member."""

    path: Path
    value: str | None

    def json(self) -> bytes:
        """Return the value as JSON: unchanged if it is valid JSON, else as a JSON string."""
        text = self.value or ""
        try:
            msgspec.json.decode(text)
        except msgspec.DecodeError:
            return _encode(text)
        return text.strip().encode()

    def text(self) -> str:
        """Return the value for a text field: the content of a JSON string, else the text as given."""
        text = self.value or ""
        try:
            return msgspec.json.decode(text, type=str)
        except msgspec.DecodeError:
            return text

    def apply(self, document: bytes, depth: int = 0) -> bytes:
        """Return the edited document. Only the last name of the path may be new.

        `depth`: how many steps of the path lead to the document itself. `NoSuchPathError` if any other
        part of the path does not exist.
        """
        return _edited(document, self.path, depth, self)


def assignment(text: str) -> Edit:
    """Parse `PATH=VALUE`. `PathError` if the syntax is invalid."""
    path, rest = _read(text)
    if not rest.startswith("="):
        raise PathError(
            f"{text} is not an assignment: write PATH=VALUE, such as properties.price=12.5"
        )
    return Edit(path, rest[1:])


def removal(text: str) -> Edit:
    """Parse `PATH` as the removal of a member. `PathError` if the syntax is invalid."""
    path, rest = _read(text)
    if rest:
        raise PathError(f"{text} is not a path: it is invalid from {rest} on")
    return Edit(path, None)


def shown(path: Sequence[PathStep]) -> str:
    """Return the path as people write it."""
    parts = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _STEP.fullmatch(step) and not step.startswith("."):
            parts.append(f".{step}")
        else:
            parts.append(f"[{_encode(step).decode()}]")
    return "".join(parts).removeprefix(".")


def _read(text: str) -> tuple[Path, str]:
    at = 1 if text.startswith(("$.", "$[")) else 0
    path: list[PathStep] = []
    while found := _STEP.match(text, at):
        if found[0].startswith(".") and not at:
            break
        if path and found[1] is not None and not found[0].startswith("."):
            break
        name, index, quoted = found.groups()
        path.append(int(index) if index else msgspec.json.decode(quoted) if quoted else name)
        at = found.end()
    if not path:
        raise PathError(
            f'{text} is not a path: write names and indexes, such as a.b, a["x y"], a[0]'
        )
    return tuple(path), text[at:]


def _edited(document: bytes, path: Path, depth: int, edit: Edit) -> bytes:
    step, is_last = path[depth], depth == len(path) - 1
    missing = NoSuchPathError(f"there is no {shown(path[: depth + 1])}")

    def changed(inner: Raw) -> Raw:
        value = edit.json() if is_last else _edited(bytes(inner), path, depth + 1, edit)
        return Raw(value)

    if isinstance(step, int):
        items = _decoded(_decode_array, document, missing)
        if step >= len(items):
            raise missing
        if is_last and edit.value is None:
            del items[step]
        else:
            items[step] = changed(items[step])
        return _encode(items)
    members = _decoded(_decode_object, document, missing)
    is_new = is_last and edit.value is not None
    if step not in members and not is_new:
        raise missing
    if is_last and edit.value is None:
        del members[step]
    else:
        members[step] = changed(members.get(step, Raw()))
    return _encode(members)


def _decoded(decode: Callable[[bytes], T], document: bytes, missing: NoSuchPathError) -> T:
    try:
        return decode(document)
    except msgspec.ValidationError:  # another kind of value: it does not have the path
        raise missing from None
    except (msgspec.DecodeError, RecursionError) as fault:
        raise NoSuchPathError(f"it is not valid JSON ({fault}) and cannot be edited") from None
