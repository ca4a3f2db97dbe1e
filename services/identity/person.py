"""What identity remembers at one identifier, and the sessions a late event may still join. Plain values."""

from collections.abc import Collection

import msgspec

from services.core.identifiers import minted_profile_id

# Enough for a person's open visits at a few sources and some hours of lateness; older ones are left
# to the query-time merge (weir.sessions), which joins segments by the same gap rule.
RECENT_SESSIONS = 12
LINKS_REMEMBERED = 32


class Session(msgspec.Struct, array_like=True):
    """A visit as seen from one identifier. Times are epoch milliseconds of the events' own time."""

    source: str
    session_id: str
    started_at: int
    ended_at: int
    given: bool  # the client's own id: the gap rule leaves it alone


class Memory(msgspec.Struct, array_like=True):
    """What only identity itself reads; analysts have `weir.sessions` and `weir.merges`."""

    linked: list[str] = []
    recent_sessions: list[Session] = []
    # Of a person at an identifier that was erased: above every version of the one before, so that
    # whatever compares versions takes the new one for the latest.
    versions_before: int = 0


class Person(msgspec.Struct):
    """The state of one identifier; also the profile snapshot that analysts see of it."""

    workspace: str
    identity_key: str
    profile_id: str
    owner: str = ""  # user identifier that claimed it
    first_seen: int = 0
    last_seen: int = 0
    events: int = 0
    sessions: int = 0
    traits: str = "{}"
    traits_at: int = 0
    version: int = 0
    memory: Memory = msgspec.field(default_factory=Memory)

    @property
    def recent_sessions(self) -> list[Session]:
        return self.memory.recent_sessions

    @classmethod
    def new(cls, workspace: str, at: str, versions_before: int = 0) -> "Person":
        """Nobody has been seen at the identifier yet."""
        kind, _, identifier = at.partition(":")
        profile_id = identifier if kind == "p" else minted_profile_id(workspace, at)
        return cls(workspace, at, profile_id, memory=Memory(versions_before=versions_before))

    def at_own_profile(self) -> bool:
        """True while the identifier has the profile that was minted for it."""
        return self.profile_id == minted_profile_id(self.workspace, self.identity_key)

    def saw(self, occurred_at: int) -> None:
        """Count one event. Any order of events comes to the same."""
        if self.events == 0:
            self.first_seen = self.last_seen = occurred_at
        elif occurred_at < self.first_seen:
            self.first_seen = occurred_at
        elif occurred_at > self.last_seen:
            self.last_seen = occurred_at
        self.events += 1

    def link(self, target: str) -> bool:
        """True the first time (within the last `LINKS_REMEMBERED`): the link is worth sending."""
        linked = self.memory.linked
        if target in linked:
            return False
        linked.append(target)
        del linked[:-LINKS_REMEMBERED]
        return True

    def unlink(self, names: Collection[str]) -> None:
        """Forget links that tell of any of these identifiers."""
        linked = self.memory.linked
        kept = [target for target in linked if not set(target.split("\0")) & set(names)]
        if len(kept) < len(linked):
            self.memory.linked = kept
            self.version += 1

    def keep(self, session: Session) -> None:
        """Remember a new session, forgetting the one that ended longest ago."""
        self.sessions += 1
        self.recent_sessions.append(session)
        if len(self.recent_sessions) > RECENT_SESSIONS:
            oldest = min(self.recent_sessions, key=lambda known: known.ended_at)
            self.recent_sessions.remove(oldest)
