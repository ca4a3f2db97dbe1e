-- The cost of names inside events is bounded, whatever names come: docs/decisions/0018-any-json.md.
-- In each part the 32 most frequent paths are columns and the rest share one map; inside arrays of
-- objects it is 8, then 2, then none.
--
-- No statement waits for old rows. They stay readable, and ClickHouse rewrites their parts in the
-- background: one mutation, on every replica (system.mutations shows its progress).

-- A JSON column keeps values. It drops nulls, empty objects, spaces, and repeats of a name.
ALTER TABLE {{database}}.events {{cluster}}
    ADD COLUMN IF NOT EXISTS properties_text String CODEC(ZSTD(1)) COMMENT 'properties as sent, byte for byte; empty: stored before this column existed',
    ADD COLUMN IF NOT EXISTS context_text String CODEC(ZSTD(1)) COMMENT 'context as sent; empty: stored before this column existed';

-- A compact part has one data file, however many paths it has. `map_with_buckets`: merging parts in
-- the `advanced` format takes many gigabytes of memory for names inside arrays.
ALTER TABLE {{database}}.events {{cluster}} MODIFY SETTING
    min_bytes_for_wide_part = 1125899906842624,
    object_shared_data_serialization_version = 'map_with_buckets',
    object_shared_data_serialization_version_for_zero_level_parts = 'map_with_buckets',
    merge_max_block_size_bytes = 4194304;

ALTER TABLE {{database}}.events {{cluster}}
    MODIFY COLUMN properties JSON(max_dynamic_paths = 32, max_dynamic_types = 8) COMMENT 'values by path, such as properties.price; properties_text has all that was sent',
    MODIFY COLUMN context JSON(max_dynamic_paths = 32, max_dynamic_types = 8) COMMENT 'values by path; context_text has all that was sent'
SETTINGS alter_sync = 0, mutations_sync = 0;

-- A landing table of its own, and not another query for the view there is. ClickHouse names what a view
-- writes otherwise once it has restarted after MODIFY QUERY: an insert that is repeated then would go in twice.
-- Sinks of before go on with landing_resolved, and keep no texts.
CREATE TABLE IF NOT EXISTS {{database}}.landing_events {{cluster}}
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

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_events_to_events {{cluster}}
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
    properties::JSON(max_dynamic_paths = 32, max_dynamic_types = 8) AS properties,
    context::JSON(max_dynamic_paths = 32, max_dynamic_types = 8) AS context,
    l.properties AS properties_text,
    l.context AS context_text,
    fromUnixTimestamp64Milli(occurred_at, 'UTC') AS occurred_at,
    fromUnixTimestamp64Milli(received_at, 'UTC') AS received_at,
    door,
    ip,
    user_agent,
    over_quota
FROM {{database}}.landing_events AS l;

-- A view has the columns that its table had when it was made.
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

CREATE OR REPLACE VIEW {{database}}.events_of_people {{cluster}} AS
SELECT
    e.* EXCEPT (profile_id),
    if(m.into_profile_id = '', e.profile_id, m.into_profile_id) AS profile_id
FROM {{database}}.events AS e
LEFT ANY JOIN {{database}}.merged_profiles AS m
    ON m.workspace = e.workspace AND m.merged_profile_id = e.profile_id;
