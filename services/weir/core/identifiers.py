"""Identifiers and the keys made of them: pure, so that a replay makes the same."""

import hashlib
import hmac
import uuid
from functools import cached_property
from typing import Literal

from msgspec import Struct

SEPARATOR = "\0"
# Stands before the identity key of an accepted event that was sent with a public key, or with none.
PUBLIC_MARK = "~"
# Weir's own UUIDv5 namespace, of session ids and of the profile ids of installations before salts.
NAMESPACE = uuid.UUID("6f1cf8a5-6f0b-5f0e-9c39-7b1f6f0d7e57")
_NAMESPACE_BYTES = NAMESPACE.bytes


def content_digest(content: bytes) -> bytes:
    """16 bytes that name a content: BLAKE2b-128."""
    return hashlib.blake2b(content, digest_size=16).digest()


def payload_hash(*parts: bytes) -> bytes:
    """16 bytes that name a content: BLAKE2b-128 of the parts, joined by NUL."""
    return content_digest(b"\0".join(parts))


def dedup_key(source: str, idempotency_key: str) -> bytes:
    """Key of `events.accepted`: equal for, and only for, one source's equal idempotency keys."""
    return dedup_prefix(source) + content_digest(idempotency_key.encode())


def dedup_prefix(source: str) -> bytes:
    """What the dedup keys of one source begin with; the digest of the idempotency key follows."""
    return source.encode() + b"\0"


def identity_key(profile_id: str, user_id: str, anonymous_id: str, session_id: str) -> str:
    """The identifier an event is decided at, with its kind as prefix; empty when it names nobody.

    A profile id comes first: the client asserts with it whose event this is, and the worker that
    owns that profile knows which user has claimed it (docs/decisions/0002-identity-keys.md).
    """
    if profile_id:
        return "p:" + profile_id
    if user_id:
        return "u:" + user_id
    if anonymous_id:
        return "a:" + anonymous_id
    if session_id:
        return "s:" + session_id
    return ""


def workspace_key(workspace: str, identity: str) -> bytes:
    """Key of `events.unique` and `profiles`: an identifier within its workspace."""
    return f"{workspace}{SEPARATOR}{identity}".encode()


def minted_profile_id(workspace: str, identity: str) -> str:
    """The profile id of an identifier in an installation without a salt. Anybody can compute it."""
    return _uuid5(f"profile{SEPARATOR}{workspace}{SEPARATOR}{identity}")


Minted = Literal["", "user", "other"]
_DIGEST_BYTES = 12
_CHECK_BYTES = 4


class ProfileIds(Struct, frozen=True, dict=True):
    """Mints the profile ids of one installation, and knows them again. Pure: a replay makes the same.

    With a salt an id is a UUIDv8 (RFC 9562, 5.8): 90 bits of a keyed hash of the identifier, then 32 bits of
    a keyed hash of those, by which it is known as one of ours, and whether it is a user's. Without the
    salt nobody can compute either. `legacy`: people of before the salt keep the ids that they have.
    """

    salt: bytes = b""
    legacy: bool = True

    def mint(self, workspace: str, identity: str) -> str:
        """The profile id of an identifier for which the client brought none."""
        if not self.salt:
            return minted_profile_id(workspace, identity)
        name = f"{workspace}{SEPARATOR}{identity}".encode()
        start = bytearray(hashlib.blake2b(name, digest_size=_DIGEST_BYTES, key=self.salt).digest())
        start[6] = start[6] & 0x0F | 0x80
        start[8] = start[8] & 0x3F | 0x80
        is_user = identity.startswith("u:")
        return _uuid_text(bytes(start) + self._check(bytes(start), is_user))

    def all_of(self, workspace: str, identity: str) -> tuple[str, ...]:
        """Every id that this installation may have minted for an identifier."""
        now = self.mint(workspace, identity)
        if not self.salt or not self.legacy:
            return (now,)
        return now, minted_profile_id(workspace, identity)

    def minted(self, profile_id: str) -> Minted:
        """Whether an id is one of ours, and a user's or another identifier's; empty: it is not."""
        if not self.salt or len(profile_id) != 36 or profile_id[14] != "8":
            return ""
        try:
            told = uuid.UUID(profile_id)
        except ValueError:
            return ""
        if str(told) != profile_id:
            return ""  # written in another way than we do: somebody else's text
        start, check = told.bytes[:_DIGEST_BYTES], told.bytes[_DIGEST_BYTES:]
        if hmac.compare_digest(check, self._check(start, True)):
            return "user"
        return "other" if hmac.compare_digest(check, self._check(start, False)) else ""

    def may_be_minted(self, profile_id: str) -> bool:
        """Whether an id is one of ours, or looks as those of before the salt do."""
        if self.minted(profile_id):
            return True
        is_uuid5 = len(profile_id) == 36 and profile_id[14] == "5"
        return is_uuid5 and (self.legacy or not self.salt)

    def _check(self, start: bytes, is_user: bool) -> bytes:
        key = self._user_key if is_user else self._other_key
        return hashlib.blake2b(start, digest_size=_CHECK_BYTES, key=key).digest()

    @cached_property
    def _user_key(self) -> bytes:
        return hashlib.blake2b(b"user", key=self.salt, digest_size=32).digest()

    @cached_property
    def _other_key(self) -> bytes:
        return hashlib.blake2b(b"other", key=self.salt, digest_size=32).digest()


def minted_session_id(profile_id: str, source: str, started_at: int) -> str:
    """The id of a session found by the gap rule (`started_at` in epoch milliseconds)."""
    return _uuid5(f"session{SEPARATOR}{profile_id}{SEPARATOR}{source}{SEPARATOR}{started_at}")


LEGACY_IDS = ProfileIds()  # of an installation without a salt


def _uuid5(name: str) -> str:
    """`str(uuid.uuid5(NAMESPACE, name))` (RFC 9562, 5.5) at a third of the cost: one is made per event."""
    digest = bytearray(
        hashlib.sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return _uuid_text(digest)


def _uuid_text(digest: bytes | bytearray) -> str:
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
