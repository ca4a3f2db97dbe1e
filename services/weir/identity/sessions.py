"""Assign events to sessions: the client's own session id, else by the source's session gap. Pure functions."""

from weir.core.identifiers import minted_session_id
from weir.identity.person import Person, RecentSession


def session_of(
    person: Person, profile_id: str, source: str, given: str, occurred_at: int, gap_ms: int
) -> str:
    """Return the session id of an event at `occurred_at`, and remember the session in `person`.

    A given id is used unchanged. Otherwise the event joins the remembered session at its source whose span it falls
    into or misses by at most the gap (inclusive), however late it arrives; of two such sessions, the
    earlier one. Otherwise it opens a new session. Sessions that a late event turns out to connect, and sessions of
    identifiers that are merged later, are joined at query time.
    """
    if given:
        return _given(person, source, given, occurred_at)
    found: RecentSession | None = None
    for session in person.recent_sessions:
        if (
            not session.given
            and session.source == source
            and session.started_at - gap_ms <= occurred_at <= session.ended_at + gap_ms
            and (found is None or session.started_at < found.started_at)
        ):
            found = session
    if found is None:
        session_id = minted_session_id(profile_id, source, occurred_at)
        person.keep(RecentSession(source, session_id, occurred_at, occurred_at, given=False))
        return session_id
    _extend(found, occurred_at)
    return found.session_id


def _given(person: Person, source: str, given: str, occurred_at: int) -> str:
    for session in person.recent_sessions:
        if session.given and session.session_id == given and session.source == source:
            _extend(session, occurred_at)
            return given
    person.keep(RecentSession(source, given, occurred_at, occurred_at, given=True))
    return given


def _extend(session: RecentSession, occurred_at: int) -> None:
    if occurred_at < session.started_at:
        session.started_at = occurred_at
    elif occurred_at > session.ended_at:
        session.ended_at = occurred_at
