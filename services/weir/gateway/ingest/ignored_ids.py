"""Remove placeholder ids (`undefined`, `null`) from an event, with a warning; its context keeps them. Pure."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from weir.core.blocked_ids import BlockedIds
from weir.gateway.http.error_codes import quoted
from weir.gateway.ingest.validation import Event, Policy

MEMBER = "ignored_ids"  # the member of the context that keeps them
FIELDS = ("user_id", "anonymous_id", "profile_id", "session_id")

_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def has_ignored(event: Event, blocked: BlockedIds) -> bool:
    """Check whether an id of the event is a blocked value."""
    user, anonymous = event.user_id, event.anonymous_id
    profile, session = event.profile_id, event.session_id
    has = blocked.has
    return bool(
        (user and has(user))
        or (anonymous and has(anonymous))
        or (profile and has(profile))
        or (session and has(session))
    )


def ignored_in(event: Event, blocked: BlockedIds) -> dict[str, str]:
    """Return the event's ids that are blocked values, by field."""
    found = {field: getattr(event, field) for field in FIELDS}
    return {field: text for field, text in found.items() if text and blocked.has(text)}


def without(event: Event, ignored: Mapping[str, str], new_profile_id: str = "") -> Event:
    """Return the event without these ids; its context keeps what was sent.

    `new_profile_id` takes the place of an ignored profile id.
    """
    context = _encode({**_decode(event.context), MEMBER: dict(ignored)})
    ids = dict.fromkeys(ignored, "")
    if "profile_id" in ids:
        ids["profile_id"] = new_profile_id
    return msgspec.structs.replace(event, context=context, **ids)


def explain(ignored: Mapping[str, str], policy: Policy) -> list[str]:
    """Return a warning for each ignored id, with the client's name of the field."""
    return [
        f"{policy.field(field)} {quoted(text)} is not an id; the event is accepted without it"
        for field, text in ignored.items()
    ]
