"""Apply entries of the small topics that services follow; a damaged entry does not stop a service."""

from collections.abc import Callable, Iterable

import msgspec

from weir.adapters import avro
from weir.adapters.kafka.clients import Entry
from weir.runtime import logs

# What decoding damaged bytes may raise.
DAMAGED = (*avro.GARBAGE_ERRORS, msgspec.MsgspecError)
SHOWN_KEY_BYTES = 200

ApplyEntry = Callable[[bytes, bytes | None], None]


def apply_entries(topic: str, entries: Iterable[Entry], apply: ApplyEntry) -> None:
    """Apply each entry in order. A damaged entry is logged and skipped: the earlier value of its key stays."""
    for key, value in entries:
        try:
            apply(key, value)
        except DAMAGED as fault:
            logs.get("tables").error(
                "a damaged entry is skipped",
                topic=topic,
                key=key[:SHOWN_KEY_BYTES].decode("utf-8", "replace"),
                fault=type(fault).__name__,
            )
