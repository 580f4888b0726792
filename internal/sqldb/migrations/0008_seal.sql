-- +goose Up

-- wraps: JSON, the master key as key management services hold it, none when it is configured itself. previous: JSON, the data keys under the master
-- key from before, while it is being replaced. facts: JSON, when each data key was made and began to seal.
ALTER TABLE journal_keyset ADD COLUMN wraps TEXT NOT NULL DEFAULT '';
ALTER TABLE journal_keyset ADD COLUMN previous TEXT NOT NULL DEFAULT '';
ALTER TABLE journal_keyset ADD COLUMN facts TEXT NOT NULL DEFAULT '';

-- The data keys of each project, sealed by the installation's. Shredding empties keyset for good and leaves the row. Times are in microseconds since
-- 1970, UTC; 0 is never.
CREATE TABLE journal_project_keys (
    project     TEXT     NOT NULL PRIMARY KEY,
    keyset      {{blob}} NOT NULL,
    facts       TEXT     NOT NULL,
    revision    BIGINT   NOT NULL,
    created_at  BIGINT   NOT NULL,
    shredded_at BIGINT   NOT NULL
);

-- Work on sealed data that goes on while calls are served: a rotation, or sealing everything again. At most one runs, by whoever holds the lease.
CREATE TABLE journal_seal_jobs (
    id          TEXT   NOT NULL PRIMARY KEY,
    kind        TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    phase       TEXT   NOT NULL,
    done        BIGINT NOT NULL,
    total       BIGINT NOT NULL,
    actor_kind  TEXT   NOT NULL,
    actor_id    TEXT   NOT NULL,
    actor_name  TEXT   NOT NULL,
    why         TEXT   NOT NULL,
    drop_after  BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    finished_at BIGINT NOT NULL,
    lease_by    TEXT   NOT NULL,
    lease_until BIGINT NOT NULL,
    failure     TEXT   NOT NULL
);

CREATE UNIQUE INDEX journal_seal_jobs_running ON journal_seal_jobs (state) WHERE state = 'running';

-- +goose Down
DROP TABLE journal_seal_jobs;
DROP TABLE journal_project_keys;
ALTER TABLE journal_keyset DROP COLUMN facts;
ALTER TABLE journal_keyset DROP COLUMN previous;
ALTER TABLE journal_keyset DROP COLUMN wraps;
