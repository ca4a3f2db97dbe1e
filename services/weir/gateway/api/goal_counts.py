"""Count in ClickHouse how often a site's goals were reached: one query a question, every value a parameter.

What reaches a goal is defined in one place, the view `goal_events`.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from weir.adapters.clickhouse.query import ClickHouse
from weir.core.registry import Goal
from weir.settings.shared import ClickHouseSettings

SECONDS = 5  # time limit of a query

_COMMON = """
WITH
    wanted AS
    (
        SELECT goal.1 AS goal_id, goal.2 AS goal_type, goal.3 AS goal_value
        FROM
        (
            SELECT arrayJoin(
                arrayZip({ids:Array(String)}, {types:Array(String)}, {values:Array(String)})
            ) AS goal
        )
    ),
    seen AS
    (
        SELECT goal_type, goal_value, profile_id, toUnixTimestamp64Milli(occurred_at) AS at
        FROM {database:Identifier}.goal_events
        WHERE source = {site:String}
            AND occurred_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
            AND occurred_at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
    )
"""
_LIMITS = f"SETTINGS max_execution_time = {SECONDS}"

# `seen` has a row of type `event` for every event, so the profiles in these rows are all visitors.
STATS = f"""{_COMMON}
SELECT
    goal_id,
    conversions,
    converted,
    (SELECT uniqExactIf(profile_id, profile_id != '') FROM seen WHERE goal_type = 'event') AS visitors
FROM wanted
LEFT JOIN
(
    SELECT
        goal_type, goal_value, count() AS conversions, uniqExactIf(profile_id, profile_id != '') AS converted
    FROM seen
    WHERE (goal_type, goal_value) IN (SELECT goal_type, goal_value FROM wanted)
    GROUP BY goal_type, goal_value
) AS reached USING (goal_type, goal_value)
{_LIMITS}
"""

# A bucket without events has no row.
TIMESERIES = f"""{_COMMON}
SELECT
    goal_id,
    at - positiveModulo(at, {{step:Int64}}) AS starts_at,
    count() AS conversions,
    uniqExactIf(profile_id, profile_id != '') AS converted
FROM seen
INNER JOIN wanted USING (goal_type, goal_value)
GROUP BY goal_id, starts_at
{_LIMITS}
"""


class TimeRange(NamedTuple):
    """From `since` up to `until`, in epoch milliseconds."""

    since: int
    until: int


class GoalCount(NamedTuple):
    """Events that reached a goal, the people who reached it, and all people of the site in that time."""

    goal_id: str
    conversions: int
    converted: int
    visitors: int


class GoalBucket(NamedTuple):
    """The counts of one hour or day (UTC), which starts at `starts_at` in epoch milliseconds."""

    goal_id: str
    starts_at: int
    conversions: int
    converted: int


class GoalCounts:
    """Goal queries for any thread; it connects at the first query, and again after a failed attempt to connect.

    `ClickHouseUnreachableError` or `ClickHouseRefusedError` (also after SECONDS) if a query fails.
    """

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connected: ClickHouse | None = None

    def stats(self, site_id: str, goals: Sequence[Goal], span: TimeRange) -> list[GoalCount]:
        """Return one row for every goal."""
        rows = self._ask(STATS, site_id, goals, span)
        return [GoalCount(row[0], int(row[1]), int(row[2]), int(row[3])) for row in rows]

    def timeseries(
        self, site_id: str, goals: Sequence[Goal], span: TimeRange, step_ms: int
    ) -> list[GoalBucket]:
        """Return one row for every goal and bucket in which it was reached, in no order."""
        rows = self._ask(TIMESERIES, site_id, goals, span, step=step_ms)
        return [GoalBucket(row[0], int(row[1]), int(row[2]), int(row[3])) for row in rows]

    def _ask(
        self, sql: str, site_id: str, goals: Sequence[Goal], span: TimeRange, **more: Any
    ) -> list[list[Any]]:
        parameters = {
            "database": self._settings.clickhouse_database,
            "site": site_id,
            "since": span.since,
            "until": span.until,
            "ids": [goal.id for goal in goals],
            "types": [goal.type for goal in goals],
            "values": [goal.value for goal in goals],
            **more,
        }
        return self._clickhouse().ask(sql, parameters).rows

    def _clickhouse(self) -> ClickHouse:
        with self._lock:
            if self._connected is None:
                self._connected = ClickHouse(self._settings, timeout_seconds=2 * SECONDS)
            return self._connected
