-- +goose Up

-- One row a call: where it stands. completion is a hash of the provider's id of its answer, 0 without one: those ids come in no order, and
-- an index of the texts cost more than all the rest of a row.
CREATE TABLE metrics_calls (
    id            TEXT    NOT NULL PRIMARY KEY,
    completion    BIGINT  NOT NULL,
    block         BIGINT  NOT NULL
) {{clustered}};

-- Some providers give the same id again and again: the newest of them is found without reading all.
CREATE INDEX metrics_calls_completion ON metrics_calls (completion, block) WHERE completion <> 0;

-- The calls themselves. Calls of one minute that share what they are selected by, and were committed together, share a row: a row and its
-- places in the indexes cost more than all the rest of recording a call. first_at and last_at are the starts of the oldest and the newest of
-- them, in microseconds since 1970, UTC. records holds the calls in the spool's encoding (metrics/ledger/codec.go, block.go). Calls are selected by
-- project, prompt, version, label and outcome; the other columns group scores as the figures of their calls are, '(other)' included.
CREATE TABLE metrics_call_blocks (
    block         {{int64}} NOT NULL PRIMARY KEY,
    project       TEXT    NOT NULL,
    prompt_id     TEXT    NOT NULL,
    version       BIGINT  NOT NULL,
    label         TEXT    NOT NULL,
    variant       TEXT    NOT NULL,
    provider      TEXT    NOT NULL,
    model         TEXT    NOT NULL,
    principal     TEXT    NOT NULL,
    endpoint      TEXT    NOT NULL,
    purpose       TEXT    NOT NULL,
    outcome       TEXT    NOT NULL,
    first_at      BIGINT  NOT NULL,
    last_at       BIGINT  NOT NULL,
    records       {{blob}} NOT NULL
);

CREATE INDEX metrics_call_blocks_project ON metrics_call_blocks (project, last_at);
CREATE INDEX metrics_call_blocks_prompt ON metrics_call_blocks (project, prompt_id, last_at);

-- Sums by minute. shard is the process start whose spool the calls came from: each row has one writer, readers add the shards up.
-- figures holds all that adds up, calls once more among it: tokens, costs, mergeable histograms of durations (metrics/ledger/rollup.go). As
-- a column each it took longer to write, and a row is written again and again in its minute. A project has a bounded number of rows a minute and
-- shard: the rest is summed up in rows whose columns say '(other)'.
CREATE TABLE metrics_rollups (
    project       TEXT    NOT NULL,
    minute        BIGINT  NOT NULL,
    prompt_id     TEXT    NOT NULL,
    version       BIGINT  NOT NULL,
    label         TEXT    NOT NULL,
    variant       TEXT    NOT NULL,
    provider      TEXT    NOT NULL,
    model         TEXT    NOT NULL,
    principal     TEXT    NOT NULL,
    endpoint      TEXT    NOT NULL,
    purpose       TEXT    NOT NULL,
    outcome       TEXT    NOT NULL,
    shard         TEXT    NOT NULL,
    prompt_name   TEXT    NOT NULL,
    calls         BIGINT  NOT NULL,
    figures       {{blob}} NOT NULL,
    PRIMARY KEY (project, minute, prompt_id, version, label, variant, provider, model, principal, endpoint, purpose, outcome, shard)
);

CREATE INDEX metrics_rollups_shard ON metrics_rollups (shard, minute);

-- How far each spool has been applied; written in the transaction that applies it.
CREATE TABLE metrics_spool_cursors (
    run TEXT   NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    pos BIGINT NOT NULL
);

-- Current scores: one of each scorer (a call's token, an end user, a key, or an id of the caller's) on each name of a call. They join their calls when
-- they are read, since a call may be committed after its score. value is the number, or 1 and 0 for true and false; NULL for a category. comment is
-- sealed, empty without one.
CREATE TABLE metrics_feedback (
    project  TEXT    NOT NULL,
    call_id  TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    scorer   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    value    DOUBLE PRECISION,
    category TEXT    NOT NULL,
    comment  {{blob}} NOT NULL,
    end_user TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    at       BIGINT  NOT NULL,
    PRIMARY KEY (project, call_id, name, scorer)
);

CREATE INDEX metrics_feedback_at ON metrics_feedback (project, at);

-- What a scorer said before it corrected itself.
CREATE TABLE metrics_feedback_history (
    project  TEXT    NOT NULL,
    call_id  TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    scorer   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    value    DOUBLE PRECISION,
    category TEXT    NOT NULL,
    comment  {{blob}} NOT NULL,
    end_user TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    at       BIGINT  NOT NULL
);

CREATE INDEX metrics_feedback_history_score ON metrics_feedback_history (project, call_id, name, scorer, at);

-- +goose Down
DROP TABLE metrics_feedback_history;
DROP TABLE metrics_feedback;
DROP TABLE metrics_spool_cursors;
DROP TABLE metrics_rollups;
DROP TABLE metrics_call_blocks;
DROP TABLE metrics_calls;
