-- Each quota in the period that holds the present moment. What was used in a period that has ended says
-- nothing of the one after it: without an event since then, nothing is used.
CREATE OR REPLACE VIEW {{database}}.quotas {{cluster}} AS
SELECT
    source,
    quota.name AS name,
    quota.period AS period,
    quota.unit AS unit,
    quota.limit AS `limit`,
    if(is_past, 0, quota.used) AS used,
    quota.action AS action,
    quota.exceeded AND NOT is_past AS exceeded,
    if(is_past, multiIf(
        quota.period = 'minute', toStartOfMinute(now('UTC')) + INTERVAL 1 MINUTE,
        quota.period = 'hour', toStartOfHour(now('UTC')) + INTERVAL 1 HOUR,
        quota.period = 'day', toStartOfDay(now('UTC')) + INTERVAL 1 DAY,
        toDateTime(toStartOfMonth(now('UTC')), 'UTC') + INTERVAL 1 MONTH
    ), quota.resets_at) AS resets_at,
    updated_at
FROM
(
    SELECT source, updated_at, quota, quota.resets_at <= now64(3, 'UTC') AS is_past
    FROM {{database}}.source_usage FINAL
    ARRAY JOIN quotas AS quota
);
