"""Find the identifiers of a profile-less event in its properties, by its source's mappings. Pure functions.

See docs/decisions/0006-mappings.md.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from weir.core.blocked_ids import DEFAULT, BlockedIds
from weir.core.registry import EVERY_EVENT, IdMapping
from weir.core.repeated_names import without_repeats

MAX_CHARACTERS = 255  # of an identifier, as at the gateway
_index = re.compile(r"[0-9]{1,9}").fullmatch  # no list has more elements than that
_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


class Named(NamedTuple):
    """The identifiers found; empty: not found."""

    profile_id: str
    user_id: str
    anonymous_id: str
    session_id: str


def mapping_of(mappings: Sequence[IdMapping], event: str) -> IdMapping | None:
    """Return the mapping of an event: the event's own, else the source's mapping for every event; None: neither."""
    found = None
    for mapping in mappings:
        if mapping.event == event:
            return mapping
        if mapping.event == EVERY_EVENT:
            found = mapping
    return found


def named_by(mapping: IdMapping, properties: str, blocked: BlockedIds = DEFAULT) -> Named | None:
    """Return the identifiers at the mapping's paths; None if no value there can be an identifier."""
    try:
        content = msgspec.json.decode(properties)
    except msgspec.DecodeError:  # for example half a surrogate pair: it is stored unchanged
        return None
    raw = properties.encode()
    if (single := without_repeats(raw)) is not raw:
        content = msgspec.json.decode(single)
    named = Named(
        _identifier_at(content, mapping.profile_id, blocked),
        _identifier_at(content, mapping.user_id, blocked),
        _identifier_at(content, mapping.anonymous_id, blocked),
        _identifier_at(content, mapping.session_id, blocked),
    )
    return named if any(named) else None


def _identifier_at(content: Any, path: str, blocked: BlockedIds) -> str:
    """Return the text or integer at a path, if it can be an identifier; else an empty text."""
    if not path:
        return ""
    for segment in path.split("."):
        content = _member(content, segment)
    if isinstance(content, bool) or not isinstance(content, str | int):
        return ""
    text = str(content).strip()
    if len(text) > MAX_CHARACTERS or _control(text) or blocked.has(text):
        return ""
    return text


def _member(content: Any, segment: str) -> Any:
    """Return an object's member by name or an array's by index; None if there is none."""
    if isinstance(content, dict):
        return content.get(segment)
    if isinstance(content, list) and _index(segment):
        index = int(segment)
        return content[index] if index < len(content) else None
    return None
