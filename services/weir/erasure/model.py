"""Erasure values: one erasure, the person it erases, and how long topics keep traces of that person. Pure."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from weir.core import topics
from weir.core.identifiers import (
    LEGACY_IDS,
    SEPARATOR,
    ProfileIds,
    content_digest,
    workspace_key,
)

ErasureState = Literal["requested", "counted", "finished"]
Phase = Literal["queued", "waiting", "deleting", "finished"]
SubjectKind = Literal["profile", "user"]

MINUTE_MS = 60_000
# Kafka checks for expired segments every 5 minutes and deletes a segment's file one minute after it
# expires (log.retention.check.interval.ms, log.segment.delete.delay.ms).
KAFKA_DELETES_MS = 6 * MINUTE_MS
# ClickHouse deletes a replaced part after `old_parts_lifetime`.
OLD_PARTS_MS = 8 * MINUTE_MS
NEVER = 10_413_791_999_000  # the end of the year 2299, ClickHouse's latest time

# Topics that hold a person's events, or records derived from them, for a while or for good.
LEFT_IN = (
    topics.ACCEPTED,
    topics.UNIQUE,
    topics.RESOLVED,
    topics.DUPLICATE,
    topics.REJECTED,
    topics.DEAD,
    topics.RECEIPTS,
    topics.DEDUP_STATE,
    topics.PROFILES,
    topics.ERASURES,
)

# The most entries of each list in one record (`barred`: bytes). With identifiers of 255 letters of 4 bytes
# each a record has 600 KB; brokers accept 1 MB (message.max.bytes).
IN_A_RECORD = {"names": 200, "profiles": 200, "counts": 1_000, "barred": 5_000 * 16}


class ErasedPlace(msgspec.Struct):
    """How many rows were removed from a place, and when (epoch milliseconds) no disk holds any of them."""

    place: str
    rows: int
    gone_by: int


class ErasedRows(msgspec.Struct):
    """How many rows of a table were removed, by the keys that the books count by (step, source, minute)."""

    place: str
    step: str
    source: str
    minute: int
    rows: int


class ErasureProgress(msgspec.Struct, frozen=True):
    """What the eraser is doing now. `of`: the service it waits for, or the table it deletes rows from."""

    phase: Phase = "queued"
    of: str = ""
    left: int = 0  # records that the service has yet to process

    @property
    def text(self) -> str:
        """Return the progress as text for people."""
        match self.phase:
            case "queued":
                return "waiting for the eraser"
            case "waiting" if self.left:
                return f"waiting for {self.of}: {self.left:,} records to go"
            case "waiting":
                return f"waiting for {self.of}: counts"
            case "deleting":
                return f"deleting from ClickHouse: {self.of}"
            case "finished":
                return "finished"


class Erasure(msgspec.Struct):
    """One person's erasure. Times are epoch milliseconds; 0: not yet."""

    erasure_id: str
    workspace: str
    subject: str  # `profile:<id>` or `user:<id>`; empty once finished
    requested_at: int
    state: ErasureState = "requested"
    step: str = ErasureProgress().text  # the text of `progress`
    subject_hash: str = ""
    until: int = 0
    finished_at: int = 0
    names: list[str] = []
    profiles: list[str] = []
    places: list[ErasedPlace] = []
    counts: list[ErasedRows] = []
    barred: bytes = b""  # see `EraseFilter`
    barred_until: int = 0
    portions: int = 1  # records it takes; never shrinks, so that a rewrite overwrites each of them
    progress: ErasureProgress = ErasureProgress()

    def doing(self, progress: ErasureProgress) -> "Erasure":
        """Return the same erasure with this progress."""
        return msgspec.structs.replace(self, progress=progress, step=progress.text)

    def in_portions(self) -> list["Erasure"]:
        """Split the erasure into portions of one record each.

        The first has `step`, `places` and the head of each list; the others have the rest of the lists.
        """
        number = self._takes()
        first = msgspec.structs.replace(self, portions=number)
        rest = msgspec.structs.replace(first, step="", places=[])
        return [
            msgspec.structs.replace(
                rest if n else first,
                **{
                    name: getattr(self, name)[n * most : (n + 1) * most]
                    for name, most in IN_A_RECORD.items()
                },
            )
            for n in range(number)
        ]

    def joined(self, others: Iterable["Erasure"]) -> "Erasure":
        """Return the whole erasure. `self` is the first portion of `in_portions`, `others` are the rest."""
        portions = (self, *others)
        barred = b"".join(portion.barred for portion in portions)
        names, profiles, counts = (
            [value for portion in portions for value in getattr(portion, name)]
            for name in ("names", "profiles", "counts")
        )
        return msgspec.structs.replace(
            self, names=names, profiles=profiles, counts=counts, barred=barred
        )

    def finished(self, now: int, hashed: str) -> "Erasure":
        """Return the finished erasure, which no longer names the person. `hashed`: see `subject_hash`."""
        return msgspec.structs.replace(
            self.doing(ErasureProgress("finished")),
            state="finished",
            subject="",
            subject_hash=hashed,
            finished_at=now,
            names=[],
            profiles=[],
            portions=self._takes(),
        )

    def _takes(self) -> int:
        needed = (-(-len(getattr(self, name)) // most) for name, most in IN_A_RECORD.items())
        return max(self.portions, *needed)


@dataclass(frozen=True)
class ErasedPerson:
    """Every identifier and profile of a person in a workspace. `with_ties` only ever adds to them."""

    workspace: str
    names: frozenset[str]  # identifiers, prefixed with their kind: p:, u:, a:, s:
    profiles: frozenset[str]
    ids: ProfileIds = LEGACY_IDS  # how the installation mints profile ids

    @classmethod
    def of(cls, workspace: str, subject: str, ids: ProfileIds = LEGACY_IDS) -> "ErasedPerson":
        kind, _, identifier = subject.partition(":")
        if kind == "user":
            names, profiles = frozenset({f"u:{identifier}"}), frozenset[str]()
        else:
            names, profiles = frozenset({f"p:{identifier}"}), frozenset({identifier})
        return cls(workspace, names, profiles, ids).with_ties((), ())

    @property
    def users(self) -> list[str]:
        return self._named("u:")

    @property
    def anonymous_ids(self) -> list[str]:
        return self._named("a:")

    def _named(self, kind: str) -> list[str]:
        return sorted(name.removeprefix(kind) for name in self.names if name.startswith(kind))

    def with_ties(
        self, parts: Iterable[tuple[str, str, str]], merges: Iterable[tuple[str, str]]
    ) -> "ErasedPerson":
        """Return the person with the identifiers and profiles of `parts` and `merges` added.

        `parts`: (identifier, its profile, its owner), each with an identifier or profile of the person.
        `merges`: (from profile, into profile). The profiles minted for each identifier are added, too.
        """
        names, profiles = set(self.names), set(self.profiles)
        for identity_key, profile_id, owner in parts:
            names |= {identity_key, owner} - {""}
            profiles.add(profile_id)
        for merge in merges:
            profiles |= set(merge)
        profiles |= {
            minted
            for name in names
            if not name.startswith("p:")
            for minted in self.ids.all_of(self.workspace, name)
        }
        return ErasedPerson(self.workspace, frozenset(names), frozenset(profiles - {""}), self.ids)

    def identifiers(self) -> list[str]:
        """Return what counts as a trace of the person: bare identifiers and profile ids, sorted."""
        return sorted({name.partition(":")[2] for name in self.names} | self.profiles)


class EraseFilter:
    """The records and rows of erased people, which must not be put back from topics that still hold them.

    It keeps digests only: a digest tells nothing to somebody who does not already have the identifier.
    """

    DIGEST_BYTES = 16

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        self._until: dict[bytes, int] = {}
        for erasure in erasures:
            for start in range(0, len(erasure.barred), self.DIGEST_BYTES):
                digest = erasure.barred[start : start + self.DIGEST_BYTES]
                self._until[digest] = max(erasure.until, self._until.get(digest, 0))

    def __len__(self) -> int:
        return len(self._until)

    @staticmethod
    def digests(person: ErasedPerson, rows: Iterable[str]) -> bytes:
        """Return the concatenated digests of a person. `rows`: ids of rows that name the person in no field."""
        contents = [workspace_key(person.workspace, name) for name in sorted(person.names)]
        contents += [_profile(person.workspace, profile) for profile in sorted(person.profiles)]
        return b"".join(map(content_digest, [*contents, *(_row(row) for row in rows)]))

    def has_person(
        self, workspace: str, names: Iterable[str], profiles: Iterable[str], at: int
    ) -> bool:
        """Check whether a record that was received `at` has an identifier or a profile of an erased person."""
        contents = [workspace_key(workspace, name) for name in names]
        contents += [_profile(workspace, profile) for profile in profiles]
        return any(at <= self._until.get(content_digest(content), -1) for content in contents)

    def has_row(self, row: str) -> bool:
        return content_digest(_row(row)) in self._until


def names_to_forget(at: str, names: list[str]) -> list[list[str]]:
    """Return, for each erase record to the identifier `at`, the names that it has to forget.

    An identifier of the person forgets everything it knows, so one record with its own name is enough.
    """
    if at in names:
        return [[at]]
    most = IN_A_RECORD["names"]
    return [names[start : start + most] for start in range(0, len(names), most)]


def _profile(workspace: str, profile: str) -> bytes:
    return f"{workspace}{SEPARATOR}profile{SEPARATOR}{profile}".encode()


def _row(row: str) -> bytes:
    return f"row{SEPARATOR}{row}".encode()


def subject_of(kind: SubjectKind, identifier: str) -> str:
    return f"{kind}:{identifier}"


def subject_hash(secret: str, erasure_id: str, workspace: str, subject: str) -> str:
    """Return an HMAC-SHA256 in hex. Without a secret the key is the erasure's id: anybody can test guesses."""
    content = f"{workspace}{SEPARATOR}{subject}".encode()
    return hmac.new((secret or erasure_id).encode(), content, hashlib.sha256).hexdigest()


def topic_gone_by(config: Mapping[str, str], until: int, now: int) -> int:
    """Return when a topic with this configuration has lost the last byte of records written by `until`.

    With retention: Kafka deletes a segment as a whole once its latest record is too old, and a segment
    takes records for `segment.ms`. Compacted: a key deleted `now` stays until its segment is closed and
    cleaned; the tombstone stays for `delete.retention.ms` and then until it is cleaned in turn.
    Both assume that later records arrive, because only a write closes a segment.
    """
    segment = int(config.get("segment.ms", 0))
    if "compact" in config.get("cleanup.policy", ""):
        cleaned = segment + int(config.get("max.compaction.lag.ms", NEVER))
        return min(NEVER, now + 2 * cleaned + int(config.get("delete.retention.ms", 0)))
    retention = int(config.get("retention.ms", -1))
    return NEVER if retention < 0 else min(NEVER, until + retention + segment + KAFKA_DELETES_MS)


def kept_until(configs: Iterable[Mapping[str, str]], until: int) -> int:
    """Return until when a replay of one of these topics may still read a record written before `until`."""
    return max((topic_gone_by(config, until, until) for config in configs), default=NEVER)
