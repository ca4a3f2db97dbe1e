"""What identity remembers at one identifier, and the sessions a late event may still join. Plain values."""

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from weir.core.identifiers import LEGACY_IDS, ProfileIds

# Enough for a person's open visits at a few sources and some hours of lateness; older ones are left
# to the query-time merge (weir.sessions), which joins segments by the same gap rule.
RECENT_SESSIONS = 12
LINKS_REMEMBERED = 32
EVER = -(2**63)  # before every time

# Who was the first to be seen at a client's profile id. Of state that an earlier version left it is unknown.
UNKNOWN, PUBLIC, TRUSTED = range(3)


class DeviceClaim(msgspec.Struct, array_like=True, frozen=True):
    """To whom an anonymous identifier belongs, and the event that shows it."""

    profile_id: str
    owner: str  # user identifier; empty: nobody who is known
    since: int  # epoch milliseconds that claims are compared by; see `claims.claim_of`
    occurred_at: int
    event_id: bytes

    @property
    def rank(self) -> tuple[bool, int, int, bytes, str]:
        """The lowest wins: owned before unowned, then the earliest. Total, so that no order of arrival counts."""
        return not self.owner, self.since, self.occurred_at, self.event_id, self.profile_id


class Stamp(NamedTuple):
    """When a trait was set: by the event's own time, then by the order of receipt."""

    occurred_at: int
    event_id: bytes


class RecentSession(msgspec.Struct, array_like=True):
    """A visit as seen from one identifier. Times are epoch milliseconds of the events' own time."""

    source: str
    session_id: str
    started_at: int
    ended_at: int
    given: bool  # the client's own id: the gap rule leaves it alone


class Memory(msgspec.Struct, array_like=True):
    """What only identity itself reads; analysts have `weir.sessions` and `weir.merges`."""

    linked: list[str] = []
    recent_sessions: list[RecentSession] = []
    # Of a person at an identifier that was erased: above every version of the one before, so that
    # whatever compares versions takes the new one for the latest.
    versions_before: int = 0
    linked_at: list[int] = []  # of each of `linked`: since when it says so; missing ones: for ever
    claim: DeviceClaim | None = None  # of an anonymous identifier
    seen_first: int = UNKNOWN  # of a client's profile id: PUBLIC or TRUSTED
    stamps: list[Stamp] = []  # when traits were set, each once
    trait_stamps: list[
        int
    ] = []  # of each trait, in their order, its stamp; none: all at `traits_at`


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
    def recent_sessions(self) -> list[RecentSession]:
        return self.memory.recent_sessions

    @classmethod
    def new(
        cls, workspace: str, at: str, versions_before: int = 0, ids: ProfileIds = LEGACY_IDS
    ) -> "Person":
        """Nobody has been seen at the identifier yet."""
        kind, _, identifier = at.partition(":")
        profile_id = identifier if kind == "p" else ids.mint(workspace, at)
        return cls(workspace, at, profile_id, memory=Memory(versions_before=versions_before))

    def at_own_profile(self, ids: ProfileIds) -> bool:
        """True while the identifier has the profile that was minted for it."""
        return self.profile_id in ids.all_of(self.workspace, self.identity_key)

    def saw(self, occurred_at: int) -> None:
        """Count one event. Any order of events comes to the same."""
        if self.events == 0:
            self.first_seen = self.last_seen = occurred_at
        elif occurred_at < self.first_seen:
            self.first_seen = occurred_at
        elif occurred_at > self.last_seen:
            self.last_seen = occurred_at
        self.events += 1

    def link(self, target: str, since: int = EVER) -> bool:
        """Whether the link is worth sending: the first time, and when it is true since earlier.

        The first time within the last `LINKS_REMEMBERED`; a link that is sent again changes nothing.
        """
        linked, times = self.memory.linked, self.memory.linked_at
        if target in linked:
            if len(times) < len(linked):
                times[:0] = [EVER] * (len(linked) - len(times))
            at = linked.index(target)
            if times[at] <= since:
                return False
            times[at] = since
            return True
        if len(times) < len(linked):
            times[:0] = [EVER] * (len(linked) - len(times))
        linked.append(target)
        times.append(since)
        del linked[:-LINKS_REMEMBERED]
        del times[:-LINKS_REMEMBERED]
        return True

    def unlink(self, names: Collection[str]) -> None:
        """Forget links that tell of any of these identifiers."""
        linked, times = self.memory.linked, self.memory.linked_at
        told = dict(zip(reversed(linked), reversed(times), strict=False))
        kept = [target for target in linked if not set(target.split("\0")) & set(names)]
        if len(kept) < len(linked):
            self.memory.linked = kept
            self.memory.linked_at = [told.get(target, EVER) for target in kept]
            self.version += 1

    def keep(self, session: RecentSession) -> None:
        """Remember a new session, forgetting the one that ended longest ago."""
        self.sessions += 1
        self.recent_sessions.append(session)
        if len(self.recent_sessions) > RECENT_SESSIONS:
            oldest = min(self.recent_sessions, key=lambda known: known.ended_at)
            self.recent_sessions.remove(oldest)
