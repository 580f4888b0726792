-- +goose Up

-- Where calls stand by the hash of the provider's id of their answer. Those ids come in no order, so that each new one falls on a page of its own once
-- there are many: a row here is a quarter of what it was as an index of metrics_calls, which had the call's id in each entry. Calls of one block whose
-- provider gave them the same id share a row.
CREATE TABLE metrics_completions (
    completion BIGINT NOT NULL,
    block      BIGINT NOT NULL,
    PRIMARY KEY (completion, block)
) {{clustered}};

INSERT INTO metrics_completions (completion, block) SELECT DISTINCT completion, block FROM metrics_calls WHERE completion <> 0;

DROP INDEX metrics_calls_completion;
ALTER TABLE metrics_calls DROP COLUMN completion;

-- +goose Down
ALTER TABLE metrics_calls ADD COLUMN completion BIGINT NOT NULL DEFAULT 0;
CREATE INDEX metrics_calls_completion ON metrics_calls (completion, block) WHERE completion <> 0;
DROP TABLE metrics_completions;
