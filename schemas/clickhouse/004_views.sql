-- What analysts and operators read: people after merges, visits, traits, and the books.

-- Profiles that are part of another, each with the profile it ends in. Merges chain at most three
-- deep (anonymous, the client's profile, the user's). A join, since it is always up to date.
CREATE OR REPLACE VIEW {{database}}.merged_profiles {{cluster}} AS
SELECT
    first.workspace AS workspace,
    first.from_profile AS merged_profile_id,
    multiIf(
        third.into_profile != '', third.into_profile,
        second.into_profile != '', second.into_profile,
        first.into_profile
    ) AS into_profile_id
FROM {{database}}.merges AS first FINAL
LEFT ANY JOIN (SELECT workspace, from_profile, into_profile FROM {{database}}.merges FINAL) AS second
    ON second.workspace = first.workspace AND second.from_profile = first.into_profile
LEFT ANY JOIN (SELECT workspace, from_profile, into_profile FROM {{database}}.merges FINAL) AS third
    ON third.workspace = second.workspace AND third.from_profile = second.into_profile;

-- Each session id as it was given out, with the visit it belongs to. A client's own ids stand. The
-- others of one person at one source are one visit where at most 30 minutes (inclusive; the same gap
-- as in services/identity/sessions.py) lie between the end of what came before and the next start;
-- the visit goes by the id of its first segment.
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
        sum(session_given OR before = 0 OR started_at > reached + INTERVAL 30 MINUTE) OVER (
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
                groupUniqArrayArray(s.anonymous_ids) AS anonymous_ids
            FROM {{database}}.session_segments AS s
            LEFT ANY JOIN {{database}}.merged_profiles AS m
                ON m.workspace = s.workspace AND m.merged_profile_id = s.profile_id
            GROUP BY workspace, source, profile_id, segment_id, session_given
        )
        WINDOW earlier AS (
            PARTITION BY workspace, source, profile_id, session_given ORDER BY started_at, segment_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    )
);

-- One row a visit.
CREATE OR REPLACE VIEW {{database}}.sessions {{cluster}} AS
SELECT
    session_id,
    workspace,
    source,
    profile_id,
    min(v.started_at) AS started_at,
    max(v.ended_at) AS ended_at,
    dateDiff('millisecond', started_at, ended_at) / 1000 AS duration_seconds,
    sum(v.events) AS events,
    argMinMerge(v.entry_event) AS entry_event,
    argMaxMerge(v.exit_event) AS exit_event,
    groupUniqArrayArray(v.user_ids) AS user_ids,
    groupUniqArrayArray(v.anonymous_ids) AS anonymous_ids,
    session_given
FROM {{database}}.visit_segments AS v
GROUP BY session_id, workspace, source, profile_id, session_given;

-- Events as of now: whose they are after all merges, in which visit.
CREATE OR REPLACE VIEW {{database}}.events_current {{cluster}} AS
SELECT
    e.* EXCEPT (profile_id, session_id),
    if(m.into_profile_id = '', e.profile_id, m.into_profile_id) AS profile_id,
    if(e.session_given OR v.session_id = '', e.session_id, v.session_id) AS session_id
FROM {{database}}.events AS e
LEFT ANY JOIN {{database}}.merged_profiles AS m
    ON m.workspace = e.workspace AND m.merged_profile_id = e.profile_id
LEFT ANY JOIN
(
    SELECT segment_id, session_id
    FROM {{database}}.visit_segments
    WHERE NOT session_given AND segment_id != session_id
) AS v ON v.segment_id = e.session_id;

-- One row a person. Traits: of each name the value of the latest $identify that set it.
CREATE OR REPLACE VIEW {{database}}.profiles {{cluster}} AS
WITH
    parts AS
    (
        SELECT
            p.workspace AS workspace,
            if(m.into_profile_id = '', p.profile_id, m.into_profile_id) AS profile_id,
            p.identity_key AS identity_key,
            p.first_seen AS first_seen,
            p.last_seen AS last_seen,
            p.events AS events,
            p.traits AS traits,
            p.traits_at AS traits_at
        FROM {{database}}.profile_parts AS p FINAL
        LEFT ANY JOIN {{database}}.merged_profiles AS m
            ON m.workspace = p.workspace AND m.merged_profile_id = p.profile_id
    ),
    people AS
    (
        SELECT
            workspace,
            profile_id,
            groupArraySorted(1000)(identity_key) AS identifiers,
            minIf(parts.first_seen, parts.events > 0) AS first_seen,
            maxIf(parts.last_seen, parts.events > 0) AS last_seen,
            sum(parts.events) AS events
        FROM parts
        GROUP BY workspace, profile_id
    ),
    trait_texts AS
    (
        SELECT
            workspace,
            profile_id,
            '{' || arrayStringConcat(groupArray(toJSONString(name) || ':' || latest), ',') || '}' AS text
        FROM
        (
            SELECT workspace, profile_id, trait.1 AS name, argMax(trait.2, (traits_at, identity_key)) AS latest
            FROM parts
            ARRAY JOIN JSONExtractKeysAndValuesRaw(parts.traits) AS trait
            GROUP BY workspace, profile_id, name
        )
        GROUP BY workspace, profile_id
    ),
    visits AS
    (
        SELECT workspace, profile_id, uniqExact(source, session_id) AS sessions
        FROM {{database}}.visit_segments
        GROUP BY workspace, profile_id
    )
SELECT
    people.workspace AS workspace,
    people.profile_id AS profile_id,
    arrayMap(k -> substring(k, 3), arrayFilter(k -> startsWith(k, 'u:'), people.identifiers)) AS user_ids,
    arrayMap(k -> substring(k, 3), arrayFilter(k -> startsWith(k, 'a:'), people.identifiers)) AS anonymous_ids,
    people.identifiers AS identifiers,
    people.first_seen AS first_seen,
    people.last_seen AS last_seen,
    people.events AS events,
    visits.sessions AS sessions,
    if(trait_texts.text = '', '{}', trait_texts.text)::JSON AS traits
FROM people
LEFT ANY JOIN visits ON visits.workspace = people.workspace AND visits.profile_id = people.profile_id
LEFT ANY JOIN trait_texts
    ON trait_texts.workspace = people.workspace AND trait_texts.profile_id = people.profile_id;

-- What each stage did with each source's events, by minute of receipt.
CREATE OR REPLACE VIEW {{database}}.usage {{cluster}} AS
SELECT source, minute, stage, outcome, sum(d.events) AS events, sum(d.bytes) AS bytes
FROM
(
    SELECT source, minute, stage, outcome, events, bytes FROM {{database}}.usage_deltas FINAL
    UNION ALL
    SELECT
        source, toStartOfMinute(toDateTime(received_at)) AS minute, 'gateway' AS stage, 'rejected' AS outcome,
        1 AS events, toInt64(length(payload)) AS bytes
    FROM {{database}}.rejected FINAL
) AS d
GROUP BY source, minute, stage, outcome;

-- How fast each source sends.
CREATE OR REPLACE VIEW {{database}}.rates {{cluster}} AS
SELECT source, updated_at, current_rate, peak_rate, peak_at FROM {{database}}.source_usage FINAL;

-- Each quota in its current period.
CREATE OR REPLACE VIEW {{database}}.quotas {{cluster}} AS
SELECT
    source,
    quota.name AS name,
    quota.period AS period,
    quota.unit AS unit,
    quota.limit AS `limit`,
    quota.used AS used,
    quota.action AS action,
    quota.exceeded AS exceeded,
    quota.resets_at AS resets_at,
    updated_at
FROM {{database}}.source_usage FINAL
ARRAY JOIN quotas AS quota;

-- The books: every accepted event is stored, a duplicate, a dead letter, or was not to be saved.
-- An event on its way counts as a difference until it lands. Rows are counted as they are, so that
-- a double would show.
CREATE OR REPLACE VIEW {{database}}.books {{cluster}} AS
SELECT
    source,
    minute,
    sum(b.accepted) AS accepted,
    sum(b.stored) AS stored,
    sum(b.duplicate) AS duplicate,
    sum(b.dead) AS dead,
    sum(b.unsaved) AS unsaved,
    accepted - stored - duplicate - dead - unsaved AS difference
FROM
(
    SELECT
        source, minute,
        if(stage = 'dedup' AND outcome = 'accepted', events, 0) AS accepted,
        0 AS stored,
        if(stage = 'dedup' AND outcome = 'duplicate', events, 0) AS duplicate,
        if(outcome = 'dead', events, 0) AS dead,
        if(outcome = 'unsaved', events, 0) AS unsaved
    FROM {{database}}.usage_deltas FINAL
    UNION ALL
    SELECT source, toStartOfMinute(toDateTime(received_at)) AS minute, 0, toInt64(count()), 0, 0, 0
    FROM {{database}}.events
    GROUP BY source, minute
    UNION ALL
    SELECT source, toStartOfMinute(toDateTime(received_at)) AS minute, 0, 0, 0, 1, 0
    FROM {{database}}.dead FINAL
    WHERE step = 'sink' AND origin_topic = 'events.resolved'
) AS b
GROUP BY source, minute;
