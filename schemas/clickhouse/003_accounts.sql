-- Accounts: what every stage did, what was refused, dropped or given up.
-- Each table's key names a record for good, so a record that is written again replaces itself.

CREATE TABLE IF NOT EXISTS {{database}}.landing_usage_delta {{cluster}}
(
    source           String,
    minute           Int64,
    stage            String,
    outcome          String,
    events           Int64,
    bytes            Int64,
    origin_topic     String,
    origin_partition Int32,
    position         Int64
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {{database}}.usage_deltas {{cluster}}
(
    source           LowCardinality(String),
    minute           DateTime('UTC')        COMMENT 'of received_at',
    stage            LowCardinality(String) COMMENT 'dedup, identity',
    outcome          LowCardinality(String) COMMENT 'accepted, unique, duplicate, resolved, unsaved, dead',
    events           Int64,
    bytes            Int64                  COMMENT 'size of the records',
    origin_topic     LowCardinality(String),
    origin_partition Int32,
    position         Int64                  COMMENT 'next offset of the origin after the transaction'
)
ENGINE = {{engine ReplacingMergeTree}}
PARTITION BY toYYYYMM(minute)
ORDER BY (source, minute, stage, outcome, origin_topic, origin_partition, position)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_usage_delta_to_usage_deltas {{cluster}}
TO {{database}}.usage_deltas AS
SELECT
    source,
    toDateTime(intDiv(minute, 1000), 'UTC') AS minute,
    stage,
    outcome,
    events,
    bytes,
    origin_topic,
    origin_partition,
    position
FROM {{database}}.landing_usage_delta;

CREATE TABLE IF NOT EXISTS {{database}}.landing_source_usage {{cluster}}
(
    source       String,
    updated_at   Int64,
    windows      Array(Tuple(period String, starts_at Int64, outcome String, events Int64, bytes Int64)),
    quotas       Array(Tuple(name String, period String, unit String, `limit` Int64, used Int64,
                             action String, exceeded Bool, resets_at Int64)),
    current_rate Float64,
    peak_rate    Float64,
    peak_at      Int64
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {{database}}.source_usage {{cluster}}
(
    source       LowCardinality(String),
    updated_at   DateTime64(3, 'UTC'),
    windows      Array(Tuple(period String, starts_at DateTime64(3, 'UTC'), outcome String,
                             events Int64, bytes Int64)),
    quotas       Array(Tuple(name String, period String, unit String, `limit` Int64, used Int64,
                             action String, exceeded Bool, resets_at DateTime64(3, 'UTC'))),
    current_rate Float64              COMMENT 'events a second over the latest full minute',
    peak_rate    Float64              COMMENT 'most events in one second, ever',
    peak_at      DateTime64(3, 'UTC'),
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree(updated_at)}}
ORDER BY source
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_source_usage_to_source_usage {{cluster}}
TO {{database}}.source_usage AS
SELECT
    source,
    fromUnixTimestamp64Milli(updated_at, 'UTC') AS updated_at,
    arrayMap(
        w -> (w.1, fromUnixTimestamp64Milli(w.2, 'UTC'), w.3, w.4, w.5), windows
    ) AS windows,
    arrayMap(
        q -> (q.1, q.2, q.3, q.4, q.5, q.6, q.7, fromUnixTimestamp64Milli(q.8, 'UTC')), quotas
    ) AS quotas,
    current_rate,
    peak_rate,
    fromUnixTimestamp64Milli(peak_at, 'UTC') AS peak_at
FROM {{database}}.landing_source_usage;

CREATE TABLE IF NOT EXISTS {{database}}.landing_rejected {{cluster}}
(
    event_id    FixedString(16),
    source      String,
    received_at Int64,
    door        String,
    code        String,
    field       String,
    detail      String,
    client_id   String,
    ip          String,
    user_agent  String,
    payload     String
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {{database}}.rejected {{cluster}}
(
    event_id    UUID                   COMMENT 'given to the refusal',
    source      LowCardinality(String),
    received_at DateTime64(3, 'UTC'),
    door        LowCardinality(String) COMMENT 'wire format it came in by',
    code        LowCardinality(String) COMMENT 'reason, for machines',
    field       LowCardinality(String) COMMENT 'path of the field at fault; empty: the whole',
    detail      String                 COMMENT 'reason, for people',
    client_id   String                 COMMENT 'its own id, if one could be read',
    ip          String,
    user_agent  String,
    payload     String                 COMMENT 'the refused bytes',
    inserted_at DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC'),
    INDEX by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = {{engine ReplacingMergeTree}}
PARTITION BY toYYYYMM(received_at)
ORDER BY (source, code, received_at, event_id)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_rejected_to_rejected {{cluster}}
TO {{database}}.rejected AS
SELECT
    toUUID(UUIDNumToString(event_id)) AS event_id,
    source,
    fromUnixTimestamp64Milli(received_at, 'UTC') AS received_at,
    door,
    code,
    field,
    detail,
    client_id,
    ip,
    user_agent,
    payload
FROM {{database}}.landing_rejected;

CREATE TABLE IF NOT EXISTS {{database}}.landing_duplicate {{cluster}}
(
    event_id          FixedString(16),
    first_event_id    FixedString(16),
    source            String,
    idempotency_key   String,
    same_payload      Bool,
    received_at       Int64,
    first_received_at Int64
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {{database}}.duplicates {{cluster}}
(
    event_id          UUID                   COMMENT 'of the repeat',
    first_event_id    UUID                   COMMENT 'of the first occurrence',
    source            LowCardinality(String),
    idempotency_key   String,
    same_payload      Bool                   COMMENT 'false: same key, other content',
    received_at       DateTime64(3, 'UTC')   COMMENT 'of the repeat',
    first_received_at DateTime64(3, 'UTC')   COMMENT 'of the first occurrence',
    inserted_at       DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC'),
    INDEX by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_first_event_id first_event_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_idempotency_key idempotency_key TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = {{engine ReplacingMergeTree}}
PARTITION BY toYYYYMM(received_at)
ORDER BY (source, received_at, event_id)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_duplicate_to_duplicates {{cluster}}
TO {{database}}.duplicates AS
SELECT
    toUUID(UUIDNumToString(event_id)) AS event_id,
    toUUID(UUIDNumToString(first_event_id)) AS first_event_id,
    source,
    idempotency_key,
    same_payload,
    fromUnixTimestamp64Milli(received_at, 'UTC') AS received_at,
    fromUnixTimestamp64Milli(first_received_at, 'UTC') AS first_received_at
FROM {{database}}.landing_duplicate;

CREATE TABLE IF NOT EXISTS {{database}}.landing_dead_letter {{cluster}}
(
    origin_topic     String,
    origin_partition Int32,
    origin_offset    Int64,
    key              String,
    value            String,
    step             String,
    version          String,
    reason           String,
    detail           String,
    source           String,
    received_at      Int64,
    event_id         Nullable(FixedString(16)),
    died_at          Int64
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {{database}}.dead {{cluster}}
(
    origin_topic     LowCardinality(String) COMMENT 'where the record was read',
    origin_partition Int32,
    origin_offset    Int64,
    key              String                 COMMENT 'of the record',
    value            String                 COMMENT 'of the record, untouched',
    step             LowCardinality(String) COMMENT 'who gave up',
    version          LowCardinality(String) COMMENT 'its version',
    reason           LowCardinality(String) COMMENT 'for machines',
    detail           String                 COMMENT 'for people',
    source           LowCardinality(String) COMMENT 'empty: could not be read',
    received_at      DateTime64(3, 'UTC')   COMMENT '1970: could not be read',
    event_id         UUID                   COMMENT 'zeros: could not be read',
    died_at          DateTime64(3, 'UTC')   COMMENT 'timestamp of the record',
    inserted_at      DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree}}
ORDER BY (origin_topic, origin_partition, origin_offset, step)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_dead_letter_to_dead {{cluster}}
TO {{database}}.dead AS
SELECT
    origin_topic,
    origin_partition,
    origin_offset,
    key,
    value,
    step,
    version,
    reason,
    detail,
    source,
    fromUnixTimestamp64Milli(received_at, 'UTC') AS received_at,
    ifNull(toUUID(UUIDNumToString(event_id)), toUUID('00000000-0000-0000-0000-000000000000')) AS event_id,
    fromUnixTimestamp64Milli(died_at, 'UTC') AS died_at
FROM {{database}}.landing_dead_letter;
