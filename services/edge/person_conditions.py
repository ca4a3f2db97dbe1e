"""Which rows of which table are a person's, as SQL and, of payloads, by reading them."""

from base64 import b64decode
from collections.abc import Callable, Iterable

from services.core.erasures import Person
from services.core.traces import Traces
from services.edge import avro
from services.edge.clickhouse_words import is_in, moment, text
from services.edge.person_rows import PersonRows

LETTER = (
    "concat(origin_topic, '/', toString(origin_partition), '/', toString(origin_offset), '/', step)"
)
# Of an Avro record: whose it is, and what its sender said.
WHO = {
    *("identity_key", "owner", "names", "user_id", "anonymous_id", "client_profile_id"),
    *("client_session_id", "profile_id", "session_id", "from_profile", "into_profile", "detail"),
}
SAID = {"properties", "context", "traits"}

# Of a kind (name, profile, user, anonymous, refusal, letter), what stands behind IN.
Chosen = Callable[[str], str]


def conditions(workspace: str, until: int, database: str, chosen: Chosen) -> dict[str, str]:
    """By table; of what was received `until` then (epoch milliseconds)."""
    within, before = f"workspace = {text(workspace)}", moment(until)
    events = (
        f"{within} AND received_at <= {before} AND (profile_id IN {chosen('profile')}"
        f" OR user_id IN {chosen('user')}"
        f" OR profile_id = '' AND anonymous_id IN {chosen('anonymous')})"
    )
    of_events = f"(SELECT event_id FROM {database}.events WHERE {events})"
    sessions = "workspace, source, profile_id, session_id"
    merged = (
        f"{within} AND (from_profile IN {chosen('profile')} OR into_profile IN {chosen('profile')})"
    )
    return {
        "duplicates": f"first_event_id IN {of_events} OR event_id IN {of_events}",
        "session_segments": f"({sessions}) IN"
        f" (SELECT {sessions} FROM {database}.events WHERE {events})",
        # a new person's versions are above: see `Memory.versions_before` of identity
        "profile_parts": f"{within} AND identity_key IN {chosen('name')} AND version <= {until}",
        "merges": f"{merged} AND merged_at <= {before}",
        "conflicts": f"{merged} AND found_at <= {before}",
        "rejected": f"toString(event_id) IN {chosen('refusal')}",
        "dead": f"{LETTER} IN {chosen('letter')}",
        "events": events,
    }


def chosen_of(
    person: Person, rows: PersonRows, database: str, until: int, sources: Iterable[str]
) -> dict[str, list[str]]:
    """All that is chosen by, each kind sorted. `sources`: of the person's workspace."""
    traces = Traces(person.identifiers())
    within = is_in("source", [*sources, ""])
    refusals = rows.stream(
        "SELECT toString(event_id) AS id, base64Encode(payload) AS payload_64"
        f" FROM {database}.rejected WHERE {within}"
        f" AND received_at <= {moment(until)} AND {mentions('payload', traces)}"
    )
    letters = rows.stream(
        f"SELECT {LETTER} AS id, base64Encode(key) AS key_64, base64Encode(value) AS value_64"
        f" FROM {database}.dead WHERE {within} AND {mentions('concat(key, value)', traces)}"
    )
    return {
        "name": sorted(person.names),
        "profile": sorted(person.profiles),
        "user": person.users,
        "anonymous": person.anonymous_ids,
        "refusal": sorted({r["id"] for r in refusals if traces.named(b64decode(r["payload_64"]))}),
        "letter": sorted(
            {
                r["id"]
                for r in letters
                if _is_of(traces, b64decode(r["key_64"]), b64decode(r["value_64"]))
            }
        ),
    }


def mentions(expression: str, traces: Traces) -> str:
    """A condition for what may have a trace: quick, and never less than what has."""
    found = " OR ".join(f"position({expression}, {text(form)}) > 0" for form in traces.forms)
    return f"({found or '0'})"


def _is_of(traces: Traces, key: bytes, value: bytes) -> bool:
    """Whether a dead record is of the person: by its fields if it is whole, else by all that is there."""
    try:
        _, record = avro.decode_any(value)
    except (avro.UnknownSchemaError, *avro.GARBAGE_ERRORS):
        return traces.anywhere(key) or traces.anywhere(value)
    who = "\n".join(str(record[name]) for name in WHO & record.keys())
    said = "\n".join(str(record[name]) for name in SAID & record.keys())
    return traces.anywhere(who.encode()) or traces.named(said.encode()) or traces.anywhere(key)
