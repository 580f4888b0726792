-- +goose Up

-- Answers that a provider still works on though their request has ended: begun, and charged when they come to their end, whoever asks by then. A call
-- stands here from its request on, in the spool's encoding, and in metrics_calls from its end on: what stands in both has ended. started is in
-- microseconds since 1970, UTC.
CREATE TABLE metrics_runs (
    id         TEXT   NOT NULL PRIMARY KEY,
    project    TEXT   NOT NULL,
    completion BIGINT NOT NULL,
    started    BIGINT NOT NULL,
    record     {{blob}} NOT NULL
);

CREATE INDEX metrics_runs_completion ON metrics_runs (completion);
CREATE INDEX metrics_runs_started ON metrics_runs (started);

-- +goose Down
DROP TABLE metrics_runs;
