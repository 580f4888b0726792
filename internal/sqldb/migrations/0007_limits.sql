-- +goose Up

-- What of something may be used, in which time, by whom. amount is in micro-dollars where measure is usd. Times are in microseconds since 1970, UTC.
CREATE TABLE policy_limits (
    project    TEXT     NOT NULL,
    id         {{sorted}} NOT NULL,
    name       {{sorted}} NOT NULL,
    measure    TEXT     NOT NULL,
    amount     BIGINT   NOT NULL,
    period     TEXT     NOT NULL,
    days       BIGINT   NOT NULL,
    zone       TEXT     NOT NULL,
    scope      TEXT     NOT NULL,
    subject    TEXT     NOT NULL,
    soft       BOOLEAN  NOT NULL,
    sandbox    BOOLEAN  NOT NULL,
    unpriced   BOOLEAN  NOT NULL,
    contact    TEXT     NOT NULL,
    created_by TEXT     NOT NULL,
    created_at BIGINT   NOT NULL,
    revision   BIGINT   NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE UNIQUE INDEX policy_limits_name ON policy_limits (project, name);

-- What was taken off a limit's spend. off is a JSON object: by the window that it was spent in. subject is whose, of a default.
CREATE TABLE policy_limit_resets (
    project    TEXT     NOT NULL,
    limit_id   {{sorted}} NOT NULL,
    subject    {{sorted}} NOT NULL,
    off        TEXT     NOT NULL,
    reset_by   TEXT     NOT NULL,
    reset_at   BIGINT   NOT NULL,
    why        TEXT     NOT NULL,
    revision   BIGINT   NOT NULL,
    PRIMARY KEY (project, limit_id, subject)
);

-- What of a budget was charged, by the window (its start) and the holder: the life of a replica that has it on lease, or '' for what ended leases came
-- to. granted is charged; used is what of it was spent, as far as the holder has told. Window 0 holds nothing: its row is what exchanges lock.
CREATE TABLE policy_limit_leases (
    limit_id   {{sorted}} NOT NULL,
    subject    {{sorted}} NOT NULL,
    started    BIGINT   NOT NULL,
    holder     {{sorted}} NOT NULL,
    granted    BIGINT   NOT NULL,
    used       BIGINT   NOT NULL,
    expires_at BIGINT   NOT NULL,
    PRIMARY KEY (limit_id, subject, started, holder)
);

-- Rates, and what runs at a time, of replicas that have no Redis: a bucket's row has holder '' and in amount what it holds, at a moment; a holder's has its
-- places, until a moment.
CREATE TABLE policy_limit_counters (
    name       {{sorted}} NOT NULL,
    holder     {{sorted}} NOT NULL,
    amount     BIGINT   NOT NULL,
    at         BIGINT   NOT NULL,
    PRIMARY KEY (name, holder)
);

-- Warnings that a budget passed 50, 85 or 95 % in a period: one row each, over all replicas. due_at is when it is delivered next, 0 once nothing is to be done.
CREATE TABLE policy_limit_warnings (
    limit_id   {{sorted}} NOT NULL,
    subject    {{sorted}} NOT NULL,
    started    BIGINT   NOT NULL,
    threshold  BIGINT   NOT NULL,
    project    TEXT     NOT NULL,
    id         {{sorted}} NOT NULL UNIQUE,
    used       BIGINT   NOT NULL,
    amount     BIGINT   NOT NULL,
    warned_at  BIGINT   NOT NULL,
    tries      BIGINT   NOT NULL,
    due_at     BIGINT   NOT NULL,
    told       BIGINT   NOT NULL,
    PRIMARY KEY (limit_id, subject, started, threshold)
);

CREATE INDEX policy_limit_warnings_due ON policy_limit_warnings (due_at);

-- +goose Down
DROP TABLE policy_limit_warnings;
DROP TABLE policy_limit_counters;
DROP TABLE policy_limit_leases;
DROP TABLE policy_limit_resets;
DROP TABLE policy_limits;
