-- When each trait was set: a person who is known at several identifiers has, of each trait, the latest value. Rows
-- from before this migration, and those of older instances of identity, count as set at traits_at.

ALTER TABLE {{database}}.profile_parts {{cluster}}
    ADD COLUMN IF NOT EXISTS stamps Array(String) COMMENT 'distinct times of traits: occurred_at + 2^63 and event id, in hex',
    ADD COLUMN IF NOT EXISTS trait_stamps Array(UInt32) COMMENT 'of each trait, in order, the index in stamps; empty: traits_at';

ALTER TABLE {{database}}.landing_profile {{cluster}}
    ADD COLUMN IF NOT EXISTS stamps Array(String),
    ADD COLUMN IF NOT EXISTS trait_stamps Array(Int32);

-- An insert that is repeated across this change adds a row of the same version, which counts once.
ALTER TABLE {{database}}.landing_profile_to_profile_parts {{cluster}} MODIFY QUERY
SELECT
    workspace,
    identity_key,
    profile_id,
    owner,
    fromUnixTimestamp64Milli(first_seen, 'UTC') AS first_seen,
    fromUnixTimestamp64Milli(last_seen, 'UTC') AS last_seen,
    toUInt64(greatest(events, 0)) AS events,
    toUInt64(greatest(sessions, 0)) AS sessions,
    traits,
    fromUnixTimestamp64Milli(traits_at, 'UTC') AS traits_at,
    toUInt64(greatest(version, 0)) AS version,
    stamps,
    trait_stamps
FROM {{database}}.landing_profile;

-- One row a person. Traits: of each name the value of the latest $identify that set it, at whichever identifier.
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
            JSONExtractKeysAndValuesRaw(p.traits) AS traits,
            -- of each trait when it was set, as text that sorts by time
            if(
                length(p.trait_stamps) = length(traits),
                arrayMap(place -> p.stamps[place + 1], p.trait_stamps),
                arrayWithConstant(
                    length(traits),
                    leftPad(lower(hex(bitXor(
                        reinterpretAsUInt64(toUnixTimestamp64Milli(p.traits_at)), 9223372036854775808))), 16, '0')
                )
            ) AS times
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
            SELECT workspace, profile_id, trait.1 AS name, argMax(trait.2, (time, identity_key)) AS latest
            FROM parts
            ARRAY JOIN parts.traits AS trait, parts.times AS time
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
    if(trait_texts.text = '', '{}', trait_texts.text)::JSON(max_dynamic_paths=32, max_dynamic_types=8) AS traits
FROM people
LEFT ANY JOIN visits ON visits.workspace = people.workspace AND visits.profile_id = people.profile_id
LEFT ANY JOIN trait_texts
    ON trait_texts.workspace = people.workspace AND trait_texts.profile_id = people.profile_id
-- one person's traits must not make the query fail for all: of two names that come to one path, the first counts
SETTINGS type_json_skip_duplicated_paths = 1, json_type_escape_dots_in_keys = 1;
