-- Erasures: that somebody was forgotten, when, and how much of whom was where; never who.

CREATE TABLE IF NOT EXISTS {{database}}.landing_erasure {{cluster}}
(
    erasure_id   String,
    workspace    String,
    state        String,
    subject_hash String,
    requested_at Int64,
    until        Int64,
    finished_at  Int64,
    places       Array(Tuple(place String, `rows` Int64, gone_by Int64)),
    counts       Array(Tuple(place String, step String, source String, minute Int64, `rows` Int64))
)
ENGINE = Null;

-- One row a place, once the erasure is finished.
CREATE TABLE IF NOT EXISTS {{database}}.erasures {{cluster}}
(
    erasure_id   UUID,
    workspace    LowCardinality(String),
    subject_hash String                 COMMENT 'HMAC-SHA256 of workspace, NUL and subject (profile:<id> or user:<id>), hex',
    requested_at DateTime64(3, 'UTC'),
    erased_until DateTime64(3, 'UTC')   COMMENT 'what was received until then was erased',
    finished_at  DateTime64(3, 'UTC'),
    place        LowCardinality(String) COMMENT 'table, state or topic, and its name',
    rows         Int64                  COMMENT 'removed; of a topic with retention 0',
    gone_by      DateTime64(3, 'UTC')   COMMENT 'nothing of it is on a disk any more then',
    inserted_at  DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree}}
ORDER BY (erasure_id, place)
SETTINGS {{deduplication}};

CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_erasure_to_erasures {{cluster}}
TO {{database}}.erasures AS
SELECT
    toUUID(erasure_id) AS erasure_id,
    workspace,
    subject_hash,
    fromUnixTimestamp64Milli(requested_at, 'UTC') AS requested_at,
    fromUnixTimestamp64Milli(until, 'UTC') AS erased_until,
    fromUnixTimestamp64Milli(finished_at, 'UTC') AS finished_at,
    p.1 AS place,
    p.2 AS rows,
    fromUnixTimestamp64Milli(p.3, 'UTC') AS gone_by
FROM {{database}}.landing_erasure
ARRAY JOIN places AS p
WHERE state = 'finished';

-- What is counted is told before the first row goes, so that what is missing of it meanwhile is being
-- erased, and no loss. Once the erasure is finished all of it is erased, to the row.
CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.landing_erasure_to_erased_rows {{cluster}}
TO {{database}}.erased_rows AS
SELECT
    toUUID(erasure_id) AS erasure_id,
    c.1 AS place,
    c.2 AS step,
    c.3 AS source,
    toDateTime(intDiv(c.4, 1000), 'UTC') AS minute,
    c.5 AS rows
FROM {{database}}.landing_erasure
ARRAY JOIN counts AS c;

-- Identity's own, on the way through the topic `profiles`: nothing is kept of it here.
CREATE TABLE IF NOT EXISTS {{database}}.landing_erased_markers {{cluster}}
(
    markers String
)
ENGINE = Null;

-- Whom the eraser is at, while it is: so that no statement that is kept (a mutation's) names anybody.
CREATE TABLE IF NOT EXISTS {{database}}.erasing {{cluster}}
(
    kind  LowCardinality(String) COMMENT 'name, profile, user, anonymous; refusal, letter: ids of rows',
    value String
)
ENGINE = {{engine MergeTree}}
ORDER BY (kind, value);
