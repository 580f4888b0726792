-- +goose Up

-- Times are in microseconds since 1970, UTC; 0 is never. A key itself is nowhere: hash is its HMAC-SHA256, lookup the public part that
-- finds the row. roles, grants and networks are JSON. Revoked keys stay.
CREATE TABLE policy_keys (
    id         {{sorted}} NOT NULL PRIMARY KEY,
    project    TEXT     NOT NULL,
    name       TEXT     NOT NULL,
    lookup     TEXT     NOT NULL UNIQUE,
    hash       {{blob}} NOT NULL,
    last_four  TEXT     NOT NULL,
    roles      TEXT     NOT NULL,
    grants     TEXT     NOT NULL,
    networks   TEXT     NOT NULL,
    expires_at BIGINT   NOT NULL,
    created_by TEXT     NOT NULL,
    created_at BIGINT   NOT NULL,
    revoked_at BIGINT   NOT NULL,
    revision   BIGINT   NOT NULL
);

CREATE INDEX policy_keys_project ON policy_keys (project, created_at, id);

-- +goose Down
DROP TABLE policy_keys;
