-- +goose Up

-- What bindings and keys allowed, by whom: the first and the newest minute, and in how many. Times are in microseconds since 1970, UTC. It is written in
-- batches and decides nothing.
CREATE TABLE policy_uses (
    project  TEXT   NOT NULL,
    holding  TEXT   NOT NULL,
    subject  TEXT   NOT NULL,
    first_at BIGINT NOT NULL,
    used_at  BIGINT NOT NULL,
    minutes  BIGINT NOT NULL,
    PRIMARY KEY (project, holding, subject)
);

-- +goose Down
DROP TABLE policy_uses;
