"""Which table takes which records. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from weir.core import reasons

TABLES = {
    "Resolved": "landing_events",
    "Duplicate": "landing_duplicate",
    "Rejected": "landing_rejected",
    "DeadLetter": "landing_dead_letter",
    "Recovery": "landing_recovery",
    "UsageDelta": "landing_usage_delta",
    "Profile": "landing_profile",
    "Merge": "landing_merge",
    "SourceUsage": "landing_source_usage",
    "Erasure": "landing_erasure",
    "ErasedMarkers": "landing_erased_markers",
}


class PoisonReason(NamedTuple):
    """Why a record cannot go in, for machines and for people."""

    reason: str
    detail: str


class Routes:
    """Tables by the header that a record's value starts with."""

    def __init__(self, name_of: Callable[[bytes], str | None]) -> None:
        """`name_of`: the schema that a header names, of whichever version; nothing: it is nobody's."""
        self._name_of = name_of

    def table(self, header: bytes) -> str | None:
        """The landing table of a schema; None: it has none."""
        return TABLES.get(self._name_of(header) or "")

    def verdict(self, header: bytes) -> PoisonReason:
        """Why records of a schema without a table cannot go in."""
        name = self._name_of(header)
        if not name:
            return PoisonReason(reasons.UNREADABLE, f"no schema of ours starts with {header.hex()}")
        return PoisonReason(reasons.UNEXPECTED, f"{name} has no table")
