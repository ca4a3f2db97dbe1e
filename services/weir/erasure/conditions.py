"""WHERE clauses that select a person's rows; payload columns are matched by scanning the bytes."""

import uuid
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from weir.adapters import avro
from weir.adapters.clickhouse.sql_literals import is_in, portions, text, time_literal
from weir.erasure.identifier_scan import IdentifierScan
from weir.erasure.model import ErasedPerson
from weir.erasure.person_rows import PersonRows

LETTER = (
    "concat(origin_topic, '/', toString(origin_partition), '/', toString(origin_offset), '/', step)"
)
# Fields of Avro records: those that say whose the record is, and those with content from its sender.
WHO = {
    *("identity_key", "owner", "names", "user_id", "anonymous_id", "client_profile_id"),
    *("client_session_id", "profile_id", "session_id", "from_profile", "into_profile", "detail"),
    *("subject", "profiles"),
}
SAID = {"properties", "context", "traits", "payload"}
SESSION = "workspace, source, profile_id, session_id"
NEEDLES = 255  # the most that multiSearchAny takes

# For a kind (name, profile, user, anonymous, refusal, letter): the SQL that follows IN.
Chosen = Callable[[str], str]


def conditions(workspace: str, until: int, database: str, chosen: Chosen) -> dict[str, str]:
    """Return, by table, the condition for the person's rows received by `until` (epoch milliseconds)."""
    within, before = f"workspace = {text(workspace)}", time_literal(until)
    events = (
        f"{within} AND received_at <= {before} AND (profile_id IN {chosen('profile')}"
        f" OR user_id IN {chosen('user')}"
        f" OR profile_id = '' AND anonymous_id IN {chosen('anonymous')})"
    )
    of_events = f"(SELECT event_id FROM {database}.events WHERE {events})"
    merged = (
        f"{within} AND (from_profile IN {chosen('profile')} OR into_profile IN {chosen('profile')})"
    )
    return {
        "duplicates": f"first_event_id IN {of_events} OR event_id IN {of_events}",
        "session_segments": visited(events, database),
        # versions of a new person at the identifier are greater (`Memory.versions_before` of identity);
        # an outdated row may name the person as owner of an identifier that is another person's by now
        "profile_parts": (
            f"{within} AND (identity_key IN {chosen('name')} OR owner IN {chosen('name')})"
            f" AND version <= {until}"
        ),
        "merges": f"{merged} AND merged_at <= {before}",
        "conflicts": f"{merged} AND found_at <= {before}",
        "rejected": f"toString(event_id) IN {chosen('refusal')}",
        "dead": f"{LETTER} IN {chosen('letter')}",
        "events": events,
    }


def visited(events: str, database: str) -> str:
    """Return a condition for the sessions of the events that the condition `events` selects."""
    of_events = f"(SELECT {SESSION} FROM {database}.events WHERE {events})"
    return f"session_id != '' AND ({SESSION}) IN {of_events}"


def chosen_of(
    person: ErasedPerson, rows: PersonRows, database: str, until: int, workspaces: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the values to select by, for each kind of `Chosen`, sorted.

    A rejected event names its source and no workspace, so all sources are searched that may be of the
    person's workspace. `workspaces`: the workspace of each declared source.
    """
    traces = IdentifierScan(person.identifiers())
    refusals, letters = set(), set()
    elsewhere = rows.others_sources(person.workspace, workspaces)
    within = f"NOT ({is_in('source', elsewhere)})"
    for some in portions({"form": traces.forms}):
        found = rows.stream(
            "SELECT toString(event_id) AS id, base64Encode(payload) AS payload_64"
            f" FROM {database}.rejected WHERE {within}"
            f" AND received_at <= {time_literal(until)} AND {mentions('payload', some['form'])}"
        )
        refusals |= {r["id"] for r in found if traces.named(b64decode(r["payload_64"]))}
        found = rows.stream(
            f"SELECT {LETTER} AS id, base64Encode(key) AS key_64, base64Encode(value) AS value_64"
            f" FROM {database}.dead"
            f" WHERE {within} AND received_at <= {time_literal(until)}"
            f" AND {mentions('concat(key, value)', some['form'])}"
        )
        for r in found:
            key, value = b64decode(r["key_64"]), b64decode(r["value_64"])
            if is_of(person.workspace, elsewhere, traces, key, value):
                letters.add(r["id"])
                refusals |= _refused(value)  # a rejected event that died must not come back either
    return {
        "name": sorted(person.names),
        "profile": sorted(person.profiles),
        "user": person.users,
        "anonymous": person.anonymous_ids,
        "refusal": sorted(refusals),
        "letter": sorted(letters),
    }


def mentions(expression: str, forms: Sequence[str]) -> str:
    """Return a fast condition that holds for every row with a trace, and perhaps for some others."""
    some = (forms[start : start + NEEDLES] for start in range(0, len(forms), NEEDLES))
    found = [f"multiSearchAny({expression}, [{', '.join(map(text, few))}])" for few in some]
    return f"({' OR '.join(found) or '0'})"


def is_of(
    workspace: str, elsewhere: Collection[str], traces: IdentifierScan, key: bytes, value: bytes
) -> bool:
    """Check whether a dead letter is the person's: by its fields if it can be decoded, else by all its bytes.

    `elsewhere`: sources that belong to other workspaces only.
    """
    try:
        name, record = avro.decode_any(value)
    except (avro.UnknownSchemaError, *avro.GARBAGE_ERRORS):
        return traces.anywhere(key) or traces.anywhere(value)
    if name == "DeadLetter":
        return is_of(workspace, elsewhere, traces, record["key"], record["value"])
    if record.get("workspace", workspace) != workspace or record.get("source") in elsewhere:
        return False
    who = "\n".join(str(record[name]) for name in WHO & record.keys())
    said = b"\n".join(_bytes(record[name]) for name in SAID & record.keys())
    return traces.anywhere(who.encode()) or traces.named(said) or traces.anywhere(key)


def _refused(value: bytes) -> set[str]:
    """Return the event id of a dead letter that is a `Rejected` record, as a set; empty for others."""
    try:
        name, record = avro.decode_any(value)
    except (avro.UnknownSchemaError, *avro.GARBAGE_ERRORS):
        return set()
    return {str(uuid.UUID(bytes=record["event_id"]))} if name == "Rejected" else set()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
