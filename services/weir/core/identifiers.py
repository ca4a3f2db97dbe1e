"""Identifiers, and the record keys made from them. Pure, so that a replay gives the same results."""

import hashlib
import hmac
import uuid
from functools import cached_property
from typing import Literal

from msgspec import Struct

SEPARATOR = "\0"
# Prefix of an accepted event's identity key if the event was sent with a public key or without a key.
PUBLIC_MARK = "~"
# Weir's own UUIDv5 namespace, for session ids and for profile ids of installations without a salt.
NAMESPACE = uuid.UUID("6f1cf8a5-6f0b-5f0e-9c39-7b1f6f0d7e57")
_NAMESPACE_BYTES = NAMESPACE.bytes


def content_digest(content: bytes) -> bytes:
    """Return the 16-byte BLAKE2b-128 digest of a content."""
    return hashlib.blake2b(content, digest_size=16).digest()


def payload_hash(*parts: bytes) -> bytes:
    """Return the 16-byte BLAKE2b-128 digest of the parts, joined by NUL."""
    return content_digest(b"\0".join(parts))


def dedup_key(source: str, idempotency_key: str) -> bytes:
    """Return the key of `events.accepted`: equal if and only if source and idempotency key are equal."""
    return dedup_prefix(source) + content_digest(idempotency_key.encode())


def dedup_prefix(source: str) -> bytes:
    """Return the common prefix of one source's dedup keys; the idempotency key's digest follows it."""
    return source.encode() + b"\0"


def identity_key(profile_id: str, user_id: str, anonymous_id: str, session_id: str) -> str:
    """Return the identifier that decides an event, prefixed by its kind; empty if the event has none.

    A profile id takes precedence: with it the client asserts whose event this is, and the worker that
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
    """Return the key of `events.unique` and `profiles`: an identifier within its workspace."""
    return f"{workspace}{SEPARATOR}{identity}".encode()


def minted_profile_id(workspace: str, identity: str) -> str:
    """Return an identifier's profile id in an installation without a salt. Anybody can compute it."""
    return _uuid5(f"profile{SEPARATOR}{workspace}{SEPARATOR}{identity}")


Minted = Literal["", "user", "other"]
_DIGEST_BYTES = 12
_CHECK_BYTES = 4


class ProfileIds(Struct, frozen=True, dict=True):
    """Mints and recognizes the profile ids of one installation. Pure: a replay gives the same ids.

    With a salt, an id is a UUIDv8 (RFC 9562, 5.8): 90 bits of a keyed hash of the identifier, then 32 bits
    of a keyed hash of those 90. The latter shows that Weir minted the id, and whether it is a user's. Without
    the salt nobody can compute either hash. `legacy`: profiles older than the salt keep their ids.
    """

    salt: bytes = b""
    legacy: bool = True

    def mint(self, workspace: str, identity: str) -> str:
        """Return the profile id of an identifier, for events that have no profile id from the client."""
        if not self.salt:
            return minted_profile_id(workspace, identity)
        name = f"{workspace}{SEPARATOR}{identity}".encode()
        start = bytearray(hashlib.blake2b(name, digest_size=_DIGEST_BYTES, key=self.salt).digest())
        start[6] = start[6] & 0x0F | 0x80
        start[8] = start[8] & 0x3F | 0x80
        is_user = identity.startswith("u:")
        return _uuid_text(bytes(start) + self._check(bytes(start), is_user))

    def all_of(self, workspace: str, identity: str) -> tuple[str, ...]:
        """Return every id that this installation may have minted for an identifier."""
        now = self.mint(workspace, identity)
        if not self.salt or not self.legacy:
            return (now,)
        return now, minted_profile_id(workspace, identity)

    def minted(self, profile_id: str) -> Minted:
        """Return whether Weir minted an id for a `user` or for an `other` identifier; empty: it did not."""
        if not self.salt or len(profile_id) != 36 or profile_id[14] != "8":
            return ""
        try:
            parsed = uuid.UUID(profile_id)
        except ValueError:
            return ""
        if str(parsed) != profile_id:
            return ""  # not in canonical form, so Weir did not write it
        start, check = parsed.bytes[:_DIGEST_BYTES], parsed.bytes[_DIGEST_BYTES:]
        if hmac.compare_digest(check, self._check(start, True)):
            return "user"
        return "other" if hmac.compare_digest(check, self._check(start, False)) else ""

    def may_be_minted(self, profile_id: str) -> bool:
        """Check whether Weir minted an id, or whether it has the form of ids from before the salt."""
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
    """Return the id of a session found by the gap rule (`started_at` in epoch milliseconds)."""
    return _uuid5(f"session{SEPARATOR}{profile_id}{SEPARATOR}{source}{SEPARATOR}{started_at}")


LEGACY_IDS = ProfileIds()  # for an installation without a salt


def _uuid5(name: str) -> str:
    """Return `str(uuid.uuid5(NAMESPACE, name))` (RFC 9562, 5.5) at a third of the cost: it runs per event."""
    digest = bytearray(
        hashlib.sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return _uuid_text(digest)


def _uuid_text(digest: bytes | bytearray) -> str:
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
