"""Map records to ClickHouse landing tables by schema. Pure functions."""

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
    """Why a record cannot be inserted: `reason` is a code for programs, `detail` a text for people."""

    reason: str
    detail: str


class Routes:
    """The landing table for each header that a record's value can start with."""

    def __init__(self, name_of: Callable[[bytes], str | None]) -> None:
        """`name_of`: return the name of a header's schema, of any version; empty or None if the schema is unknown."""
        self._name_of = name_of

    def table(self, header: bytes) -> str | None:
        """Return the landing table of a schema; None if it has no table."""
        return TABLES.get(self._name_of(header) or "")

    def verdict(self, header: bytes) -> PoisonReason:
        """Return why records of a schema without a table cannot be inserted."""
        name = self._name_of(header)
        if not name:
            return PoisonReason(reasons.UNREADABLE, f"no schema of Weir starts with {header.hex()}")
        return PoisonReason(reasons.UNEXPECTED, f"{name} has no table")
