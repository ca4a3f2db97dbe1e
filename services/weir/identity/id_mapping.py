"""Whom a profile-less event names by its properties, as its source's mappings say. Pure.

See docs/decisions/0006-mappings.md.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from weir.core.blocked_ids import DEFAULT, BlockedIds
from weir.core.registry import EVERY_EVENT, IdMapping
from weir.core.repeated_names import without_repeats

MAX_CHARACTERS = 255  # of an identifier, as at the gateway's door
_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


class Named(NamedTuple):
    """Identifiers; empty: not found."""

    profile_id: str
    user_id: str
    anonymous_id: str
    session_id: str


def mapping_of(mappings: Sequence[IdMapping], event: str) -> IdMapping | None:
    """The one in force for an event: its own, else that of every event of the source."""
    found = None
    for mapping in mappings:
        if mapping.event == event:
            return mapping
        if mapping.event == EVERY_EVENT:
            found = mapping
    return found


def named_by(mapping: IdMapping, properties: str, blocked: BlockedIds = DEFAULT) -> Named | None:
    """What the paths lead to; None: nothing that could be an identifier."""
    try:
        content = msgspec.json.decode(properties)
    except msgspec.DecodeError:  # say, half a surrogate pair somewhere: it is stored as it is
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
    """The text or integer at a path, fit to be an identifier; else empty."""
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
    """Of an object by name, of an array by number; None: there is none."""
    if isinstance(content, dict):
        return content.get(segment)
    if isinstance(content, list) and segment.isascii() and segment.isdigit():
        index = int(segment)
        return content[index] if index < len(content) else None
    return None
