-- The way of recoveries (006_corrections.sql) out of their topic.

CREATE TABLE IF NOT EXISTS {{database}}.landing_recovery {{cluster}}
(
    letter       String,
    kind         String,
    step         String,
    source       String,
    received_at  Int64,
    event_id     Nullable(FixedString(16)),
    edited       Bool,
    recovered_at Int64
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_recovery_to_recoveries {{cluster}}
TO {{database}}.recoveries AS
SELECT
    letter,
    kind,
    step,
    source,
    fromUnixTimestamp64Milli(received_at, 'UTC') AS received_at,
    ifNull(toUUID(UUIDNumToString(event_id)), toUUID('00000000-0000-0000-0000-000000000000')) AS event_id,
    edited,
    fromUnixTimestamp64Milli(recovered_at, 'UTC') AS recovered_at
FROM {{database}}.landing_recovery;
