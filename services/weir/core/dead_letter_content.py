"""What a dead letter stores of a record. Pure."""

from typing import NamedTuple

from weir.core.identifiers import payload_hash

MAX_SOURCE = 255  # characters; a source read from a damaged record may be anything
MAX_DETAIL = 2_000
CUT_KEY_BYTES = 1_024


class Stored(NamedTuple):
    """The parts of a record that its letter stores, and why these."""

    key: bytes
    value: bytes
    detail: str


def is_cut(key: bytes, value: bytes, most: int) -> bool:
    """Return whether a letter stores only a part of the record. `most`: see `RecordLimits.letter`."""
    return len(key) + len(value) > most


def stored_in_letter(key: bytes, value: bytes, detail: str, most: int) -> Stored:
    """Return the record untouched, or its digest where it is larger than the topic of letters allows."""
    if not is_cut(key, value, most):
        return Stored(key, value, detail[:MAX_DETAIL])
    digest = payload_hash(key, value).hex()
    size = len(key) + len(value)
    text = (
        f"The record is not stored here: it has {size:,} bytes, a letter holds {most:,}. Its topic has it"
        f" until its retention ends (BLAKE2b-128 of key, NUL, value: {digest}). {detail}"
    )
    return Stored(key[: min(CUT_KEY_BYTES, most)], b"", text[:MAX_DETAIL])
