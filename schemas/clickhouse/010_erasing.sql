-- Erasures under way: what is counted is told before the first row goes, so that what is missing of
-- it meanwhile is being erased, and no loss. Once the erasure is finished all of it is erased, to the
-- row.

ALTER TABLE {{database}}.landing_erasure_to_erased_rows {{cluster}} MODIFY QUERY
SELECT
    toUUID(erasure_id) AS erasure_id,
    c.1 AS place,
    c.2 AS step,
    c.3 AS source,
    toDateTime(intDiv(c.4, 1000), 'UTC') AS minute,
    c.5 AS rows
FROM {{database}}.landing_erasure
ARRAY JOIN counts AS c;

-- What each witness says of a source's minute, a row each: the stages' accounts (stage_outcome), and
-- the rows there are. A dead letter or a refusal that was sent in again is taken up by the stage that
-- had given it up, and counted there once more.
CREATE OR REPLACE VIEW {{database}}.testimonies {{cluster}} AS
SELECT
    source,
    minute,
    concat(stage, '_', outcome) AS name,
    sum(d.events) AS events,
    sum(d.fingerprint) AS fingerprint,
    sumIf(d.events, topic_id = '') AS unmarked
FROM {{database}}.usage_deltas AS d
GROUP BY source, minute, stage, outcome
UNION ALL
SELECT
    source, toStartOfMinute(toDateTime(received_at)) AS minute, 'rows',
    toInt64(count()), sum(toInt64(toUInt128(event_id))), 0
FROM {{database}}.events
GROUP BY source, minute
UNION ALL
SELECT
    source, toStartOfMinute(toDateTime(received_at)) AS minute, 'duplicate_rows',
    toInt64(count()), sum(toInt64(toUInt128(event_id))), 0
FROM {{database}}.duplicates
GROUP BY source, minute
UNION ALL
SELECT
    source, toStartOfMinute(toDateTime(received_at)) AS minute,
    multiIf(
        step != 'sink', concat(step, '_dead_rows'),
        origin_topic = 'events.resolved', 'sink_dead_rows',
        concat('sink_dead_rows_of_', origin_topic)
    ) AS name,
    toInt64(count()), sum(toInt64(toUInt128(event_id))), 0
FROM {{database}}.dead FINAL
GROUP BY source, minute, name
UNION ALL
SELECT
    source, toStartOfMinute(toDateTime(received_at)) AS minute,
    if(
        step = 'sink' AND NOT startsWith(letter, 'events.resolved/'),
        concat('sink_recovered_of_', substringIndex(letter, '/', 1)),
        concat(step, '_recovered')
    ) AS name,
    toInt64(count()), sum(toInt64(toUInt128(event_id))), 0
FROM {{database}}.recoveries FINAL
WHERE kind = 'dead'
GROUP BY source, minute, name
UNION ALL
SELECT
    source, minute,
    concat(
        if(step = '', 'rows', step),
        if(erasure_id IN (SELECT erasure_id FROM {{database}}.erasures), '', '_being'),
        '_erased_from_', place
    ) AS name,
    sum(rows), 0, 0
FROM {{database}}.erased_rows FINAL
GROUP BY source, minute, name;

-- The same beside each other: a row a source and minute. `going`: what is missing and is being erased.
CREATE OR REPLACE VIEW {{database}}.ledger {{cluster}} AS
SELECT
    source,
    minute,
    sumIf(t.events, t.name = 'dedup_accepted') AS accepted,
    sumIf(t.events, t.name = 'dedup_unique') AS `unique`,
    sumIf(t.events, t.name = 'dedup_duplicate') AS duplicate,
    sumIf(t.events, t.name = 'dedup_dead') AS dedup_dead,
    sumIf(t.events, t.name = 'dedup_recovered') AS dedup_recovered,
    sumIf(t.events, t.name = 'identity_resolved') AS resolved,
    sumIf(t.events, t.name = 'identity_unsaved') AS unsaved,
    sumIf(t.events, t.name = 'identity_erased') AS identity_erased,
    sumIf(t.events, t.name = 'identity_dead') AS identity_dead,
    sumIf(t.events, t.name = 'identity_recovered') AS identity_recovered,
    sumIf(t.events, t.name = 'rows') AS rows,
    sumIf(t.events, t.name IN ('sink_dead_rows', 'sink_erased_from_dead')) AS sink_dead,
    sumIf(t.events, t.name = 'sink_recovered') AS sink_recovered,
    sumIf(t.events, t.name = 'rows_erased_from_events') AS rows_gone,
    greatest(0, least(
        resolved + sink_recovered - rows - rows_gone - sink_dead,
        sumIf(t.events, t.name IN ('rows_being_erased_from_events', 'sink_being_erased_from_dead'))
    )) AS rows_going,
    rows_gone + rows_going AS erased_rows,
    sumIf(t.events, t.name IN ('duplicate_rows', 'rows_erased_from_duplicates',
        'sink_dead_rows_of_events.duplicate', 'sink_of_events.duplicate_erased_from_dead')
    ) - sumIf(t.events, t.name = 'sink_recovered_of_events.duplicate') AS duplicate_rows_known,
    greatest(0, least(
        duplicate - duplicate_rows_known,
        sumIf(t.events, t.name IN ('rows_being_erased_from_duplicates',
            'sink_of_events.duplicate_being_erased_from_dead'))
    )) AS duplicate_rows_going,
    duplicate_rows_known + duplicate_rows_going AS duplicate_rows,
    sumIf(t.events, t.name IN ('dedup_dead_rows', 'dedup_erased_from_dead',
        'identity_dead_rows', 'identity_erased_from_dead')) AS dead_rows_known,
    greatest(0, least(
        dedup_dead + identity_dead - dead_rows_known,
        sumIf(t.events, t.name IN ('dedup_being_erased_from_dead', 'identity_being_erased_from_dead'))
    )) AS dead_rows_going,
    dead_rows_known + dead_rows_going AS dead_rows,
    accepted - `unique` - duplicate - dedup_dead AS short_of_unique,
    `unique` + identity_recovered - resolved - unsaved - identity_erased - identity_dead AS short_of_resolved,
    resolved + sink_recovered - rows - erased_rows - sink_dead AS short_of_rows,
    duplicate - duplicate_rows AS short_of_duplicate_rows,
    dedup_dead + identity_dead - dead_rows AS short_of_dead_rows,
    sum(t.unmarked) = 0 AND sumIf(t.events, t.name LIKE '%erased_from%') = 0 AS has_fingerprints,
    sumIf(t.fingerprint, t.name IN ('dedup_unique', 'identity_recovered'))
        - sumIf(t.fingerprint, t.name IN ('identity_resolved', 'identity_unsaved', 'identity_erased', 'identity_dead'))
        AS resolved_others,
    sumIf(t.fingerprint, t.name IN ('identity_resolved', 'sink_recovered'))
        - sumIf(t.fingerprint, t.name IN ('rows', 'sink_dead_rows')) AS stored_others,
    sumIf(t.fingerprint, t.name = 'dedup_duplicate') - sumIf(t.fingerprint, t.name = 'duplicate_rows')
        AS dropped_others
FROM {{database}}.testimonies AS t
GROUP BY source, minute;
