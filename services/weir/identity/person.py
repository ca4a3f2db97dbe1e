"""The state of one identifier, including the sessions that a late event may still join. Plain values."""

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from weir.core.identifiers import LEGACY_IDS, ProfileIds

# Enough for a person's open sessions at a few sources and some hours of lateness. Older sessions are left to the
# query-time merge (weir.sessions), which joins segments by the same gap rule.
RECENT_SESSIONS = 12
LINKS_REMEMBERED = 32
EVER = -(2**63)  # earlier than every time

# Which kind of event brought a client's profile id first. In state that an earlier version wrote, it is unknown.
UNKNOWN, PUBLIC, TRUSTED = range(3)


class DeviceClaim(msgspec.Struct, array_like=True, frozen=True):
    """The profile and owner of an anonymous identifier, and the event that shows them."""

    profile_id: str
    owner: str  # user identifier; empty: unknown
    since: int  # epoch milliseconds by which claims are compared; see `claims.since`
    occurred_at: int
    event_id: bytes

    @property
    def rank(self) -> tuple[bool, int, int, bytes, str]:
        """The sort key of a claim; the lowest wins: owned before unowned, then the earliest.

        The order is total, so the order of arrival does not matter.
        """
        return not self.owner, self.since, self.occurred_at, self.event_id, self.profile_id


class Stamp(NamedTuple):
    """When a trait was set. Stamps compare by the event's own time, then by the order of receipt."""

    occurred_at: int
    event_id: bytes


class RecentSession(msgspec.Struct, array_like=True):
    """A session as seen from one identifier. Times are the events' own times in epoch milliseconds."""

    source: str
    session_id: str
    started_at: int
    ended_at: int
    given: bool  # the client gave the id, so the gap rule does not apply


class Memory(msgspec.Struct, array_like=True):
    """State that only identity reads; analysts use `weir.sessions` and `weir.merges` instead."""

    linked: list[str] = []
    recent_sessions: list[RecentSession] = []
    # Of a new person at an erased identifier: above every version of the erased person, so that whatever
    # compares versions takes the new person for the latest.
    versions_before: int = 0
    # Since when each link in `linked` is true; missing ones, at the front: `EVER`.
    linked_at: list[int] = []
    claim: DeviceClaim | None = None  # of an anonymous identifier
    seen_first: int = UNKNOWN  # of a client's profile id: PUBLIC or TRUSTED
    stamps: list[Stamp] = []  # the distinct times at which traits were set
    trait_stamps: list[
        int
    ] = []  # per trait, in order, the index of its stamp; empty: all were set at `traits_at`


class Person(msgspec.Struct):
    """The state of one identifier, which is also the profile snapshot that analysts see."""

    workspace: str
    identity_key: str
    profile_id: str
    owner: str = ""  # the user identifier that has claimed this identifier
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
        """Return the state of an identifier at which nobody has been seen yet."""
        kind, _, identifier = at.partition(":")
        profile_id = identifier if kind == "p" else ids.mint(workspace, at)
        return cls(workspace, at, profile_id, memory=Memory(versions_before=versions_before))

    def at_own_profile(self, ids: ProfileIds) -> bool:
        """Check whether the identifier still has the profile that was minted for it."""
        return self.profile_id in ids.all_of(self.workspace, self.identity_key)

    def saw(self, occurred_at: int) -> None:
        """Count one event. The order of events does not change the result."""
        if self.events == 0:
            self.first_seen = self.last_seen = occurred_at
        elif occurred_at < self.first_seen:
            self.first_seen = occurred_at
        elif occurred_at > self.last_seen:
            self.last_seen = occurred_at
        self.events += 1

    def link(self, target: str, since: int = EVER) -> bool:
        """Remember a link, and return whether to send it: if it is new, or true since an earlier time than before.

        Only the last `LINKS_REMEMBERED` links are remembered. Sending a link again changes nothing.
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
        """Forget the links that name any of these identifiers."""
        linked, times = self.memory.linked, self.memory.linked_at
        times_by_link = dict(zip(reversed(linked), reversed(times), strict=False))
        kept = [target for target in linked if not set(target.split("\0")) & set(names)]
        if len(kept) < len(linked):
            self.memory.linked = kept
            self.memory.linked_at = [times_by_link.get(target, EVER) for target in kept]
            self.version += 1

    def keep(self, session: RecentSession) -> None:
        """Remember a new session. Beyond `RECENT_SESSIONS`, forget the session that ended longest ago."""
        self.sessions += 1
        self.recent_sessions.append(session)
        if len(self.recent_sessions) > RECENT_SESSIONS:
            oldest = min(self.recent_sessions, key=lambda known: known.ended_at)
            self.recent_sessions.remove(oldest)
