-- Events: one row an event, with the profile and session it had when it was decided.
--
-- Rows arrive as FORMAT Avro in a Null table whose columns are fields of the Avro schema; a
-- materialized view carries them on. Only that first view can refuse a row (text that is not JSON),
-- so a refused insert has left nothing anywhere.

CREATE TABLE IF NOT EXISTS {{database}}.landing_resolved {{cluster}}
(
    event_id          FixedString(16),
    received_at       Int64,
    source            String,
    workspace         String,
    idempotency_key   String,
    occurred_at       Int64,
    event             String,
    user_id           String,
    anonymous_id      String,
    client_session_id String,
    over_quota        Bool,
    door              String,
    ip                String,
    user_agent        String,
    value             Nullable(Float64),
    context           String,
    properties        String,
    profile_id        String,
    session_id        String
)
ENGINE = Null;

-- In the order of what analysts ask by; event_id last makes a row of its own of every event.
-- Partitioned by the month of receipt: ten years of history in one insert make one part, not 120.
CREATE TABLE IF NOT EXISTS {{database}}.events {{cluster}}
(
    event_id        UUID                   COMMENT 'UUIDv7 given at receipt',
    workspace       LowCardinality(String) COMMENT 'sources of one workspace share people',
    source          LowCardinality(String) COMMENT 'sender, as in the registry',
    event           LowCardinality(String) COMMENT 'name',
    profile_id      String                 COMMENT 'person when it was decided; events_current has the present one',
    session_id      String                 COMMENT 'visit when it was decided; events_current has the present one',
    session_given   Bool                   COMMENT 'the client gave session_id',
    user_id         String                 COMMENT 'empty: not given',
    anonymous_id    String                 COMMENT 'empty: not given',
    idempotency_key String                 COMMENT 'unique within the source for its deduplication window',
    value           Nullable(Float64)      COMMENT 'the number of the event, such as an amount',
    properties      JSON                   COMMENT 'as sent; a path is a column: properties.price',
    context         JSON                   COMMENT 'as sent',
    occurred_at     DateTime64(3, 'UTC')   CODEC(Delta, LZ4) COMMENT 'by the account of the client',
    received_at     DateTime64(3, 'UTC')   CODEC(Delta, LZ4) COMMENT 'at the gateway; the books go by it',
    inserted_at     DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC') CODEC(Delta, LZ4) COMMENT 'here',
    door            LowCardinality(String) COMMENT 'wire format it came in by',
    ip              String                 COMMENT 'empty: unknown',
    user_agent      String                 COMMENT 'empty: not sent',
    over_quota      Bool                   COMMENT 'accepted over a quota that only marks',
    INDEX by_occurred_at occurred_at TYPE minmax GRANULARITY 1,
    INDEX by_received_at received_at TYPE minmax GRANULARITY 1,
    INDEX by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_idempotency_key idempotency_key TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_session_id session_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_profile_id profile_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = {{engine ReplacingMergeTree}}
PARTITION BY toYYYYMM(received_at)
ORDER BY (source, event, toDate32(occurred_at), profile_id, event_id)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_resolved_to_events {{cluster}}
TO {{database}}.events AS
SELECT
    toUUID(UUIDNumToString(event_id)) AS event_id,
    workspace,
    source,
    event,
    profile_id,
    session_id,
    client_session_id != '' AS session_given,
    user_id,
    anonymous_id,
    idempotency_key,
    value,
    properties::JSON AS properties,
    context::JSON AS context,
    fromUnixTimestamp64Milli(occurred_at, 'UTC') AS occurred_at,
    fromUnixTimestamp64Milli(received_at, 'UTC') AS received_at,
    door,
    ip,
    user_agent,
    over_quota
FROM {{database}}.landing_resolved;

-- What sessions are made of: one row for each session id as it was given out, so that nobody has to
-- read the events for them. Fed from events, after they have been taken.
CREATE TABLE IF NOT EXISTS {{database}}.session_segments {{cluster}}
(
    workspace     LowCardinality(String),
    source        LowCardinality(String),
    profile_id    String,
    session_id    String,
    session_given Bool,
    started_at    SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    ended_at      SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    events        SimpleAggregateFunction(sum, UInt64),
    entry_event   AggregateFunction(argMin, String, Tuple(DateTime64(3, 'UTC'), UUID)),
    exit_event    AggregateFunction(argMax, String, Tuple(DateTime64(3, 'UTC'), UUID)),
    user_ids      SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
    anonymous_ids SimpleAggregateFunction(groupUniqArrayArray, Array(String))
)
ENGINE = {{engine AggregatingMergeTree}}
ORDER BY (workspace, source, profile_id, session_id, session_given)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.events_to_session_segments {{cluster}}
TO {{database}}.session_segments AS
SELECT
    workspace,
    source,
    profile_id,
    session_id,
    session_given,
    min(occurred_at) AS started_at,
    max(occurred_at) AS ended_at,
    count() AS events,
    argMinState(toString(event), (occurred_at, event_id)) AS entry_event,
    argMaxState(toString(event), (occurred_at, event_id)) AS exit_event,
    groupUniqArrayIf(user_id, user_id != '') AS user_ids,
    groupUniqArrayIf(anonymous_id, anonymous_id != '') AS anonymous_ids
FROM {{database}}.events
WHERE session_id != ''
GROUP BY workspace, source, profile_id, session_id, session_given;
