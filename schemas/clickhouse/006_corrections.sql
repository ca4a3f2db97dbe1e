-- Corrections: what was done to the accounts after the fact, so that the books can tell it.

-- Dead letters and refusals that were sent in again.
CREATE TABLE IF NOT EXISTS {{database}}.recoveries {{cluster}}
(
    letter       String                 COMMENT 'topic/partition/offset of a dead letter''s origin; event id of a refusal',
    kind         LowCardinality(String) COMMENT 'dead, rejected',
    step         LowCardinality(String) COMMENT 'who had given up: dedup, identity, rates, sink; gateway for a refusal',
    source       LowCardinality(String) COMMENT 'as the letter has it',
    received_at  DateTime64(3, 'UTC')   COMMENT 'as the letter has it',
    event_id     UUID                   COMMENT 'zeros: could not be read',
    edited       Bool                   COMMENT 'with changed content',
    recovered_at DateTime64(3, 'UTC'),
    inserted_at  DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree}}
ORDER BY (kind, letter, step)
SETTINGS {{deduplication}};

-- Rows that erasures have removed: how many, never whose.
CREATE TABLE IF NOT EXISTS {{database}}.erased_rows {{cluster}}
(
    erasure_id  UUID,
    place       LowCardinality(String) COMMENT 'table: events, duplicates, dead, rejected',
    step        LowCardinality(String) COMMENT 'of dead: who had given up; else empty',
    source      LowCardinality(String),
    minute      DateTime('UTC')        COMMENT 'of received_at',
    rows        Int64,
    inserted_at DateTime64(3, 'UTC')   DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree}}
ORDER BY (erasure_id, place, step, source, minute)
SETTINGS {{deduplication}};
