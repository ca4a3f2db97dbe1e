"""Which parts of a record a dead letter stores. Pure."""

from typing import NamedTuple

from weir.core.identifiers import payload_hash

MAX_SOURCE = 255  # characters; a source read from a damaged record may be of any length
MAX_DETAIL = 2_000
CUT_KEY_BYTES = 1_024


class Stored(NamedTuple):
    """The key and value that a dead letter stores, and its detail text."""

    key: bytes
    value: bytes
    detail: str


def is_cut(key: bytes, value: bytes, most: int) -> bool:
    """Check whether a dead letter stores only part of the record. `most`: see `RecordLimits.letter`."""
    return len(key) + len(value) > most


def stored_in_letter(key: bytes, value: bytes, detail: str, most: int) -> Stored:
    """Return the whole record, or its start of key and its digest if it exceeds `most` bytes."""
    if not is_cut(key, value, most):
        return Stored(key, value, detail[:MAX_DETAIL])
    digest = payload_hash(key, value).hex()
    size = len(key) + len(value)
    text = (
        f"The record is not stored here: it has {size:,} bytes, a dead letter at most {most:,}. Its topic has"
        f" it until its retention ends (BLAKE2b-128 of key, NUL, value: {digest}). {detail}"
    )
    return Stored(key[: min(CUT_KEY_BYTES, most)], b"", text[:MAX_DETAIL])
