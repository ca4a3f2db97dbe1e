-- People: what is known at each identifier, and which profiles are one person.

CREATE TABLE IF NOT EXISTS {{database}}.landing_profile {{cluster}}
(
    workspace    String,
    identity_key String,
    profile_id   String,
    owner        String,
    first_seen   Int64,
    last_seen    Int64,
    events       Int64,
    sessions     Int64,
    traits       String,
    traits_at    Int64,
    version      Int64
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {{database}}.profile_parts {{cluster}}
(
    workspace    LowCardinality(String),
    identity_key String               COMMENT 'p:, u:, a: or s: and the identifier',
    profile_id   String               COMMENT 'profile that new events at this identifier get',
    owner        String               COMMENT 'user identifier that claimed it; empty: anonymous',
    first_seen   DateTime64(3, 'UTC'),
    last_seen    DateTime64(3, 'UTC'),
    events       UInt64               COMMENT 'decided at this identifier, unsaved ones included',
    sessions     UInt64               COMMENT 'opened at this identifier',
    traits       String               COMMENT 'JSON object',
    traits_at    DateTime64(3, 'UTC') COMMENT 'of the latest $identify',
    version      UInt64               COMMENT 'the highest is current',
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree(version)}}
ORDER BY (workspace, identity_key)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_profile_to_profile_parts {{cluster}}
TO {{database}}.profile_parts AS
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
    toUInt64(greatest(version, 0)) AS version
FROM {{database}}.landing_profile;

CREATE TABLE IF NOT EXISTS {{database}}.landing_merge {{cluster}}
(
    workspace    String,
    from_profile String,
    into_profile String,
    refused      Bool,
    detail       String,
    merged_at    Int64,
    event_id     FixedString(16)
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {{database}}.merges {{cluster}}
(
    workspace    LowCardinality(String),
    from_profile String,
    into_profile String,
    merged_at    DateTime64(3, 'UTC') COMMENT 'received_at of the event that showed it',
    event_id     UUID                 COMMENT 'event that showed it',
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree}}
ORDER BY (workspace, from_profile)
SETTINGS {{deduplication}};

CREATE TABLE IF NOT EXISTS {{database}}.conflicts {{cluster}}
(
    workspace    LowCardinality(String),
    from_profile String,
    into_profile String,
    detail       String               COMMENT 'why they were not merged',
    found_at     DateTime64(3, 'UTC') COMMENT 'received_at of the event that showed it',
    event_id     UUID                 COMMENT 'event that showed it',
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree}}
ORDER BY (workspace, from_profile, into_profile)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_merge_to_merges {{cluster}}
TO {{database}}.merges AS
SELECT
    workspace,
    from_profile,
    into_profile,
    fromUnixTimestamp64Milli(merged_at, 'UTC') AS merged_at,
    toUUID(UUIDNumToString(event_id)) AS event_id
FROM {{database}}.landing_merge
WHERE NOT refused;

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_merge_to_conflicts {{cluster}}
TO {{database}}.conflicts AS
SELECT
    workspace,
    from_profile,
    into_profile,
    detail,
    fromUnixTimestamp64Milli(merged_at, 'UTC') AS found_at,
    toUUID(UUIDNumToString(event_id)) AS event_id
FROM {{database}}.landing_merge
WHERE refused;
