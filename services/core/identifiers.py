"""Identifiers and the keys made of them: pure, so that a replay makes the same."""

import hashlib
import uuid

SEPARATOR = "\0"
# Weir's own UUIDv5 namespace; changing it would give every person a new profile id.
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
    """The profile id of an identifier for which the client brought none: the same at every replay."""
    return _uuid5(f"profile{SEPARATOR}{workspace}{SEPARATOR}{identity}")


def minted_session_id(profile_id: str, source: str, started_at: int) -> str:
    """The id of a session found by the gap rule (`started_at` in epoch milliseconds)."""
    return _uuid5(f"session{SEPARATOR}{profile_id}{SEPARATOR}{source}{SEPARATOR}{started_at}")


def _uuid5(name: str) -> str:
    """`str(uuid.uuid5(NAMESPACE, name))` (RFC 9562, 5.5) at a third of the cost: one is made per event."""
    digest = bytearray(
        hashlib.sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
