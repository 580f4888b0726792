-- +goose Up

-- Who may see calls without a prompt and none of a prompt finds them without reading the others.
CREATE INDEX metrics_calls_promptless ON metrics_calls (project, started_at, id) WHERE prompt_id = '';

-- +goose Down
DROP INDEX metrics_calls_promptless;
