-- +goose Up

-- When a key made its last call: its newest minute is found without reading all of a project's. A row has its place here once a minute, not once a call.
CREATE INDEX metrics_rollups_principal ON metrics_rollups (project, principal, minute);

-- +goose Down
DROP INDEX metrics_rollups_principal;
