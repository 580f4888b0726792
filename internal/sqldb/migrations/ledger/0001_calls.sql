-- +goose Up

-- One row a call. started_at is in microseconds since 1970, UTC. What is selected by stands in columns; record is the whole call in the
-- spool's encoding (metrics/ledger/codec.go), which says its own layout. completion is a hash of the provider's id of its answer, 0 without
-- one: those ids come in no order, and an index of the texts cost more than all the rest of a row.
CREATE TABLE metrics_calls (
    id            TEXT    NOT NULL PRIMARY KEY,
    project       TEXT    NOT NULL,
    prompt_id     TEXT    NOT NULL,
    version       BIGINT  NOT NULL,
    label         TEXT    NOT NULL,
    provider      TEXT    NOT NULL,
    model         TEXT    NOT NULL,
    completion    BIGINT  NOT NULL,
    started_at    BIGINT  NOT NULL,
    outcome       TEXT    NOT NULL,
    record        {{blob}} NOT NULL
);

CREATE INDEX metrics_calls_project ON metrics_calls (project, started_at);
CREATE INDEX metrics_calls_prompt ON metrics_calls (prompt_id, started_at) WHERE prompt_id <> '';
CREATE INDEX metrics_calls_completion ON metrics_calls (completion) WHERE completion <> 0;

-- Sums by minute. shard is the process start whose spool the calls came from: each row has one writer, readers add the shards up.
-- The three sketches are mergeable histograms (metrics/ledger.Sketch). Counts of tokens are over the calls that have them (counted).
CREATE TABLE metrics_rollups (
    project       TEXT    NOT NULL,
    minute        BIGINT  NOT NULL,
    prompt_id     TEXT    NOT NULL,
    version       BIGINT  NOT NULL,
    label         TEXT    NOT NULL,
    provider      TEXT    NOT NULL,
    model         TEXT    NOT NULL,
    outcome       TEXT    NOT NULL,
    shard         TEXT    NOT NULL,
    prompt_name   TEXT    NOT NULL,
    calls         BIGINT  NOT NULL,
    counted       BIGINT  NOT NULL,
    tokens_input        BIGINT NOT NULL,
    tokens_cached_input BIGINT NOT NULL,
    tokens_cache_write  BIGINT NOT NULL,
    tokens_audio_input  BIGINT NOT NULL,
    tokens_output       BIGINT NOT NULL,
    tokens_reasoning    BIGINT NOT NULL,
    tokens_audio_output BIGINT NOT NULL,
    cost_micros   BIGINT  NOT NULL,
    priced        BIGINT  NOT NULL,
    unpriced      BIGINT  NOT NULL,
    latency       {{blob}} NOT NULL,
    first_token   {{blob}} NOT NULL,
    overhead      {{blob}} NOT NULL,
    PRIMARY KEY (project, minute, prompt_id, version, label, provider, model, outcome, shard)
);

CREATE INDEX metrics_rollups_shard ON metrics_rollups (shard, minute);

-- How far each spool has been applied; written in the transaction that applies it.
CREATE TABLE metrics_spool_cursors (
    run TEXT   NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    pos BIGINT NOT NULL
);

-- Scores. They join their calls when they are read, since a call may be committed after its score. value is the number, or 1 and 0
-- for true and false; NULL for a category. comment is sealed, empty without one.
CREATE TABLE metrics_feedback (
    project  TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    call_id  TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    value    DOUBLE PRECISION,
    category TEXT    NOT NULL,
    comment  {{blob}} NOT NULL,
    end_user TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    at       BIGINT  NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE INDEX metrics_feedback_call ON metrics_feedback (project, call_id);
CREATE INDEX metrics_feedback_at ON metrics_feedback (project, at, id);

-- +goose Down
DROP TABLE metrics_feedback;
DROP TABLE metrics_spool_cursors;
DROP TABLE metrics_rollups;
DROP TABLE metrics_calls;
