-- The books, at a cost that does not grow with the events: counts by source and minute are kept in
-- projections, which ClickHouse keeps with every part. So they count the rows as they are: an insert
-- that was dropped for its token, a row that was erased or replaced is not in them, and parts from
-- before this migration are read whole until theirs is made. Whoever inserts meanwhile is right too.

-- A minute's fingerprint: the sum of its event ids, the last 8 bytes of each as a number, modulo
-- 2^64. What lost one event and doubled another has the right count and another fingerprint.

-- A topic that is made anew counts from 0 again: its accounts are not those of the one before.

ALTER TABLE {{database}}.landing_usage_delta {{cluster}}
    ADD COLUMN IF NOT EXISTS topic_id String,
    ADD COLUMN IF NOT EXISTS first Int64,
    ADD COLUMN IF NOT EXISTS fingerprint Int64;

ALTER TABLE {{database}}.usage_deltas {{cluster}}
    ADD COLUMN IF NOT EXISTS topic_id LowCardinality(String) COMMENT 'of the origin topic; empty: an older version counted',
    MODIFY ORDER BY (source, minute, stage, outcome, origin_topic, origin_partition, position, topic_id),
    ADD COLUMN IF NOT EXISTS first Int64 COMMENT 'first offset of the transaction',
    ADD COLUMN IF NOT EXISTS fingerprint Int64 COMMENT 'sum of the event ids'' last 8 bytes, modulo 2^64';

ALTER TABLE {{database}}.landing_usage_delta_to_usage_deltas {{cluster}} MODIFY QUERY
SELECT
    source,
    toDateTime(intDiv(minute, 1000), 'UTC') AS minute,
    stage,
    outcome,
    events,
    bytes,
    origin_topic,
    origin_partition,
    position,
    topic_id,
    first,
    fingerprint
FROM {{database}}.landing_usage_delta;

ALTER TABLE {{database}}.events {{cluster}} MODIFY SETTING
    deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

ALTER TABLE {{database}}.events {{cluster}} ADD PROJECTION IF NOT EXISTS by_minute
(
    SELECT
        toStartOfMinute(toDateTime(received_at)) AS minute,
        source,
        count(),
        sum(toInt64(toUInt128(event_id)))
    GROUP BY minute, source
);

ALTER TABLE {{database}}.events {{cluster}} MATERIALIZE PROJECTION by_minute;

ALTER TABLE {{database}}.duplicates {{cluster}} MODIFY SETTING
    deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

ALTER TABLE {{database}}.duplicates {{cluster}} ADD PROJECTION IF NOT EXISTS by_minute
(
    SELECT
        toStartOfMinute(toDateTime(received_at)) AS minute,
        source,
        count(),
        sum(toInt64(toUInt128(event_id)))
    GROUP BY minute, source
);

ALTER TABLE {{database}}.duplicates {{cluster}} MATERIALIZE PROJECTION by_minute;

ALTER TABLE {{database}}.usage_deltas {{cluster}} MODIFY SETTING
    deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

ALTER TABLE {{database}}.usage_deltas {{cluster}} ADD PROJECTION IF NOT EXISTS by_minute
(
    SELECT minute, source, stage, outcome, sum(events), sum(fingerprint), sumIf(events, topic_id = '')
    GROUP BY minute, source, stage, outcome
);

ALTER TABLE {{database}}.usage_deltas {{cluster}} ADD PROJECTION IF NOT EXISTS by_origin
(
    SELECT stage, origin_topic, topic_id, origin_partition, max(position)
    GROUP BY stage, origin_topic, topic_id, origin_partition
);

ALTER TABLE {{database}}.usage_deltas {{cluster}} MATERIALIZE PROJECTION by_minute;

ALTER TABLE {{database}}.usage_deltas {{cluster}} MATERIALIZE PROJECTION by_origin;

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

-- The books: every accepted event is stored, a duplicate, a dead letter, not to be saved, or erased.
-- In flight: handed on by one stage's account and not yet in the next one's. The difference is what
-- that does not explain. A dead letter that was sent in again is no longer dead, and counts once.
CREATE OR REPLACE VIEW {{database}}.books {{cluster}} AS
SELECT
    source,
    minute,
    l.accepted - dedup_recovered AS accepted,
    rows AS stored,
    l.duplicate AS duplicate,
    dedup_dead + identity_dead + sink_dead - recovered AS dead,
    l.unsaved AS unsaved,
    dedup_recovered + identity_recovered + sink_recovered AS recovered,
    identity_erased + l.erased_rows AS erased,
    greatest(short_of_resolved, 0) + greatest(short_of_rows, 0) AS in_flight,
    short_of_unique + least(short_of_resolved, 0) + least(short_of_rows, 0) AS difference
FROM {{database}}.ledger AS l;
