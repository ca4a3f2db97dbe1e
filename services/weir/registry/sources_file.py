"""Read the YAML file of sources for `weir apply`: report all faults together, and hash keys at once.

No key in plain text is kept, shown or raised: a fault names only the key's place in the file.
"""

import re
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from weir.core.registry import (
    DAY_SECONDS,
    MAX_DEDUP_WINDOW_SECONDS,
    IdMapping,
    Quota,
    Source,
    hash_key,
    is_sealed,
)

MIN_KEY_CHARACTERS = 8
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAME_RULE = "1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"
HASH = re.compile(r"[0-9a-f]{64}")
# Options with keys in plain text, and the fields for their hashes.
KEY_OPTIONS = {
    "write_keys": "write_key_hashes",
    "read_keys": "read_key_hashes",
    "admin_keys": "admin_key_hashes",
}
EXTRA_OPTIONS: dict[type, set[str]] = {Source: set(KEY_OPTIONS)}
# The values of the column `door`; a test compares them with the gateway's routes.
DOORS = frozenset(
    {
        *("cloudevents", "collect", "events", "hackle", "hitkeep", "segment", "suprsend"),
        *("tracardi", "userflux"),
    }
)
LEAST_RATE, MOST_RATE = 0.001, 1e9  # events a second
MOST_EVENTS = 10**15  # of a quota: fits into every number that it passes through
PATH_CHARACTERS = 255
EVENT = re.compile(r"\S{1,255}")
PROPERTY_PATH = re.compile(r"[^.]+(\.[^.]+)*")
SITE = re.compile(r"(?!www\.)[a-z0-9_-]+(\.[a-z0-9_-]+)*(:\d{1,5})?")
ORIGIN = re.compile(r"\*|https?://[^/\s?#*]+")


class SourcesFileError(Exception):
    """The file is not valid. `faults`: one line each, with the path in the file and what to correct."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class _StrictLoader(yaml.SafeLoader):
    """A loader that refuses repeated mapping keys: YAML loaders would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be text", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_sources(path: Path) -> dict[str, Source]:
    """Return the sources of a file by id, their keys hashed; `SourcesFileError` with all faults."""
    try:
        document = yaml.load(path.read_text(), _StrictLoader)
    except OSError as error:
        raise SourcesFileError([f"{path} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SourcesFileError([f"{path} is not UTF-8 text"]) from None
    except yaml.MarkedYAMLError as error:  # its own text would quote the line, maybe with a key
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise SourcesFileError([f"{path}, {place}: not valid YAML: {error.problem}"]) from None
    except yaml.YAMLError:
        raise SourcesFileError([f"{path} is not valid YAML"]) from None
    except RecursionError:
        raise SourcesFileError([f"{path} is nested too deeply"]) from None
    except (ValueError, TypeError, OverflowError):  # their texts would quote the value, maybe a key
        raise SourcesFileError([f"{path}: a date or a number cannot be read"]) from None
    return check_document(document)


def check_document(document: object) -> dict[str, Source]:
    """Return the sources of a parsed file by id; `SourcesFileError` with all faults."""
    if not isinstance(document, Mapping) or not isinstance(document.get("sources"), Mapping):
        raise SourcesFileError(["sources: must be a mapping of source ids to their options"])
    faults = [
        f"{key}: unknown; the file may only have `sources`" for key in document if key != "sources"
    ]
    found: dict[str, Source] = {}
    for name, options in document["sources"].items():
        source = _read_source(name, options, faults)
        if source is not None:
            found[source.id] = source
    faults += _shared_keys(found.values())
    if faults:
        raise SourcesFileError(faults)
    return found


def _read_source(name: object, options: object, faults: list[str]) -> Source | None:
    path = f"sources.{name}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        faults.append(f"{path}: the id must be {NAME_RULE} (quote it if it looks like a number)")
        return None
    if options is None:
        options = {}
    if not isinstance(options, Mapping):
        faults.append(f"{path}: must be a mapping of options")
        return None
    read_apart = (*KEY_OPTIONS, "quotas", "mappings")
    rest = {key: value for key, value in options.items() if key not in read_apart}
    if "id" in rest:
        faults.append(f"{path}.id: remove it; the id is the key `{name}`")
        del rest["id"]
    fields = _read_fields(Source, rest, path, faults)
    for option, field in KEY_OPTIONS.items():
        hashes = _hash_keys(options.get(option), f"{path}.{option}", faults)
        fields[field] = tuple(dict.fromkeys((*fields.get(field, ()), *hashes)))
    fields["quotas"] = _read_quotas(options.get("quotas"), f"{path}.quotas", faults)
    fields["mappings"] = _read_mappings(options.get("mappings"), f"{path}.mappings", faults)
    source = Source(id=name, **fields)  # invalid fields have their defaults, and faults in `faults`
    faults += [f"{path}.{fault}" for fault in _source_faults(source)]
    return source


def _read_fields(
    kind: type, options: Mapping[Any, Any], path: str, faults: list[str]
) -> dict[str, Any]:
    """Convert each option separately to its field's type, so that one fault does not hide the next."""
    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in types:
            known = ", ".join(sorted((set(types) - {"id"}) | EXTRA_OPTIONS.get(kind, set())))
            faults.append(f"{path}.{name}: unknown; use one of {known}")
            continue
        try:
            values[name] = msgspec.convert(value, types[name], strict=True)
        except msgspec.ValidationError as error:
            faults.append(f"{path}.{name}: {_lower(str(error))}{_choices(types[name])}")
    return values


def _hash_keys(keys: object, path: str, faults: list[str]) -> list[str]:
    if keys is None:
        return []
    if not isinstance(keys, list):
        faults.append(f"{path}: must be a list of keys")
        return []
    hashes = []
    for index, key in enumerate(keys):
        if not isinstance(key, str):
            faults.append(f"{path}[{index}]: must be text; put it in quotes")
        elif len(key) < MIN_KEY_CHARACTERS or any(character.isspace() for character in key):
            faults.append(
                f"{path}[{index}]: must have at least {MIN_KEY_CHARACTERS} characters and no spaces"
            )
        else:
            hashes.append(hash_key(key))
    return hashes


def _entries(
    entries: object, path: str, noun: str, members: str, faults: list[str]
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield (place, mapping) for each mapping in the list; add a fault for everything else."""
    if entries is None:
        return
    if not isinstance(entries, list):
        faults.append(f"{path}: must be a list of {noun}")
        return
    for index, options in enumerate(entries):
        place = f"{path}[{index}]"
        if isinstance(options, Mapping):
            yield place, options
        else:
            faults.append(f"{place}: must be a mapping with {members}")


def _read_quotas(quotas: object, path: str, faults: list[str]) -> tuple[Quota, ...]:
    found: list[Quota] = []
    for place, options in _entries(quotas, path, "quotas", "name, period and limit", faults):
        missing = [name for name in ("name", "period", "limit") if name not in options]
        faults += [f"{place}.{name}: is missing" for name in missing]
        values = _read_fields(Quota, options, place, faults)
        quota = Quota(**{"name": "unnamed", "period": "day", "limit": 1, **values})
        if not NAME.fullmatch(quota.name):
            faults.append(f"{place}.name: must be {NAME_RULE}")
        if "name" in values and quota.name in [other.name for other in found]:
            faults.append(f"{place}.name: {quota.name} is given twice")
        if not 1 <= quota.limit <= MOST_EVENTS:
            text = f"must be 1 to {MOST_EVENTS:,} (`enabled: false` closes a source)"
            faults.append(f"{place}.limit: {text}")
        found.append(quota)
    return tuple(found)


def _read_mappings(mappings: object, path: str, faults: list[str]) -> tuple[IdMapping, ...]:
    found: list[IdMapping] = []
    for place, options in _entries(
        mappings, path, "mappings", "event and the paths of ids", faults
    ):
        values = _read_fields(IdMapping, options, place, faults)
        if "event" not in options:
            faults.append(f'{place}.event: is missing; "*" matches every event')
        elif "event" in values and not EVENT.fullmatch(values["event"]):
            faults.append(f'{place}.event: must be the name of an event, or "*" for every event')
        elif values.get("event") in [other.event for other in found]:
            faults.append(f"{place}.event: {values['event']} is given twice")
        paths = {name: value for name, value in values.items() if name != "event"}
        faults += [
            f"{place}.{name}: must be a path into the properties, like customer.id"
            for name, value in paths.items()
            if len(value) > PATH_CHARACTERS or not PROPERTY_PATH.fullmatch(value)
        ]
        if not set(options) - {"event"}:
            faults.append(f"{place}: has no id; add user_id, anonymous_id, profile_id, ...")
        found.append(IdMapping(**{"event": "", **values}))
    return tuple(found)


def _source_faults(source: Source) -> Iterable[str]:
    if not NAME.fullmatch(source.workspace):
        yield f"workspace: must be {NAME_RULE}"
    for option, field in KEY_OPTIONS.items():
        for index, digest in enumerate(getattr(source, field)):
            if not HASH.fullmatch(digest):  # not shown, because it may be a key in the wrong place
                yield (
                    f"{field}[{index}]: must be a SHA-256 in 64 lowercase hex digits"
                    f" (put a plain-text key into {option})"
                )
    if len(set(source.key_hashes)) < len(source.key_hashes):
        yield "write_keys, read_keys and admin_keys: the same key is in two of them; use different keys"
    for index, origin in enumerate(source.allowed_origins):
        if not ORIGIN.fullmatch(origin):
            yield f"allowed_origins[{index}]: must be '*' or an origin like https://shop.example, without a path"
    for index, site in enumerate(source.sites):
        if not SITE.fullmatch(site):
            yield f"sites[{index}]: must be a host name in lower case, without `www.` or a scheme"
    for index, secret in enumerate(source.signing_secrets):
        if len(secret) < MIN_KEY_CHARACTERS:  # the fault must not show the secret
            yield f"signing_secrets[{index}]: must have at least {MIN_KEY_CHARACTERS} characters"
        if is_sealed(secret):
            yield f"signing_secrets[{index}]: is encrypted; give the secret in plain text, as the sender has it"
    for index, door in enumerate(source.unsigned_doors):
        if door not in DOORS and door != "*":
            yield f"unsigned_doors[{index}]: must be '*' or one of {', '.join(sorted(DOORS))}"
    if source.unsigned_doors and not source.signing_secrets:
        yield "unsigned_doors: has no effect without signing_secrets"
    if source.enforce_casing and source.event_casing is None:
        yield "enforce_casing: has no effect without event_casing"
    if not 1 <= source.dedup_window_seconds <= MAX_DEDUP_WINDOW_SECONDS:
        yield f"dedup_window_seconds: must be 1 to {MAX_DEDUP_WINDOW_SECONDS} (7 days)"
    if not 1 <= source.session_gap_seconds <= DAY_SECONDS:
        yield f"session_gap_seconds: must be 1 to {DAY_SECONDS} (a day)"
    for name in ("events_per_second", "events_burst"):
        rate = getattr(source, name)
        if rate != 0 and not LEAST_RATE <= rate <= MOST_RATE:  # not a number is outside, too
            yield f"{name}: must be 0 (no limit), or {LEAST_RATE:g} to {MOST_RATE:,.0f}"
    if source.events_burst and not source.events_per_second:
        yield "events_burst: has no effect without events_per_second"


def _shared_keys(sources: Iterable[Source]) -> Iterable[str]:
    """Yield a fault for each key that two sources have: the source of an event would be ambiguous."""
    owners: dict[str, str] = {}
    for source in sources:
        for digest in source.key_hashes:
            owner = owners.setdefault(digest, source.id)
            if owner != source.id:
                yield f"sources.{source.id}: has a key that {owner} has too; give it its own"


def _choices(kind: Any) -> str:
    values = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return f"; must be one of {', '.join(values)}" if values else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
