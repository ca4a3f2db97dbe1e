-- The session gap of each source, as its latest event that says one has it. Events from before this migration,
-- and those of older instances of identity, say none; a source without any has the default of 30 minutes.

ALTER TABLE {{database}}.landing_events {{cluster}}
    ADD COLUMN IF NOT EXISTS session_gap_seconds Int32 DEFAULT 0;

CREATE TABLE IF NOT EXISTS {{database}}.session_gaps {{cluster}}
(
    workspace LowCardinality(String),
    source    LowCardinality(String),
    gap       AggregateFunction(argMax, Int32, Int64)
)
ENGINE = {{engine AggregatingMergeTree}}
ORDER BY (workspace, source)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_events_to_session_gaps {{cluster}}
TO {{database}}.session_gaps AS
SELECT
    workspace,
    source,
    argMaxState(session_gap_seconds, received_at) AS gap
FROM {{database}}.landing_events
WHERE session_gap_seconds > 0
GROUP BY workspace, source;

-- Each session id as it was given out, with the visit it belongs to. A client's own ids stay. The others
-- of one person at one source are one visit if at most the source's session gap (inclusive) lies between
-- the end of what came before and the next start. The visit has the id of its first segment.
CREATE OR REPLACE VIEW {{database}}.visit_segments {{cluster}} AS
SELECT
    *,
    first_value(segment_id) OVER (
        PARTITION BY workspace, source, profile_id, session_given, visit ORDER BY started_at, segment_id
    ) AS session_id
FROM
(
    SELECT
        *,
        sum(session_given OR before = 0 OR started_at > reached + toIntervalSecond(gap_seconds)) OVER (
            PARTITION BY workspace, source, profile_id, session_given ORDER BY started_at, segment_id
        ) AS visit
    FROM
    (
        SELECT
            *,
            count() OVER earlier AS before,
            max(ended_at) OVER earlier AS reached
        FROM
        (
            SELECT
                s.workspace AS workspace,
                s.source AS source,
                if(m.into_profile_id = '', s.profile_id, m.into_profile_id) AS profile_id,
                s.session_id AS segment_id,
                s.session_given AS session_given,
                min(s.started_at) AS started_at,
                max(s.ended_at) AS ended_at,
                sum(s.events) AS events,
                argMinMergeState(s.entry_event) AS entry_event,
                argMaxMergeState(s.exit_event) AS exit_event,
                groupUniqArrayArray(s.user_ids) AS user_ids,
                groupUniqArrayArray(s.anonymous_ids) AS anonymous_ids,
                max(if(g.gap_seconds = 0, 1800, g.gap_seconds)) AS gap_seconds
            FROM {{database}}.session_segments AS s
            LEFT ANY JOIN {{database}}.merged_profiles AS m
                ON m.workspace = s.workspace AND m.merged_profile_id = s.profile_id
            LEFT ANY JOIN
            (
                SELECT workspace, source, argMaxMerge(gap) AS gap_seconds
                FROM {{database}}.session_gaps
                GROUP BY workspace, source
            ) AS g ON g.workspace = s.workspace AND g.source = s.source
            GROUP BY workspace, source, profile_id, segment_id, session_given
        )
        WINDOW earlier AS (
            PARTITION BY workspace, source, profile_id, session_given ORDER BY started_at, segment_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    )
);
