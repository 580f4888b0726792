-- +goose Up

-- Access reviews. roles, subjects, prompts, reviewers and remind are JSON arrays. digest is the SHA-256 of the evidence, once it is closed.
CREATE TABLE policy_reviews (
    project         TEXT     NOT NULL,
    id              {{sorted}} NOT NULL,
    name            TEXT     NOT NULL,
    roles           TEXT     NOT NULL,
    subjects        TEXT     NOT NULL,
    prompts         TEXT     NOT NULL,
    reviewers       TEXT     NOT NULL,
    remind          TEXT     NOT NULL,
    at_deadline     TEXT     NOT NULL,
    deadline_at     BIGINT   NOT NULL,
    lines           BIGINT   NOT NULL,
    started_by      TEXT     NOT NULL,
    started_by_name TEXT     NOT NULL,
    started_at      BIGINT   NOT NULL,
    closed_by       TEXT     NOT NULL,
    closed_by_name  TEXT     NOT NULL,
    closed_at       BIGINT   NOT NULL,
    digest          TEXT     NOT NULL,
    revision        BIGINT   NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE INDEX policy_reviews_open ON policy_reviews (closed_at, deadline_at);

-- What was held when a review began, and what was decided. held is the JSON of a binding or key with its names; change is the JSON of what it was made
-- smaller to.
CREATE TABLE policy_review_lines (
    project         TEXT     NOT NULL,
    review_id       {{sorted}} NOT NULL,
    n               BIGINT   NOT NULL,
    holding         TEXT     NOT NULL,
    subject         TEXT     NOT NULL,
    made_by         TEXT     NOT NULL,
    held_revision   BIGINT   NOT NULL,
    held            TEXT     NOT NULL,
    decision        TEXT     NOT NULL,
    change          TEXT     NOT NULL,
    outcome         TEXT     NOT NULL,
    comment         TEXT     NOT NULL,
    decided_by      TEXT     NOT NULL,
    decided_by_name TEXT     NOT NULL,
    decided_at      BIGINT   NOT NULL,
    revision        BIGINT   NOT NULL,
    PRIMARY KEY (project, review_id, n)
);

-- What people are told of, once over all replicas: what ends soon, reviews that wait. What is told is read when it is. due_at is when it is delivered next,
-- 0 once nothing is to be done.
CREATE TABLE policy_notices (
    kind     {{sorted}} NOT NULL,
    object   {{sorted}} NOT NULL,
    mark     {{sorted}} NOT NULL,
    project  TEXT     NOT NULL,
    id       {{sorted}} NOT NULL UNIQUE,
    noted_at BIGINT   NOT NULL,
    tries    BIGINT   NOT NULL,
    due_at   BIGINT   NOT NULL,
    PRIMARY KEY (kind, object, mark)
);

CREATE INDEX policy_notices_due ON policy_notices (due_at);
CREATE INDEX policy_notices_object ON policy_notices (object);
CREATE INDEX policy_bindings_expires ON policy_bindings (expires_at);

-- +goose Down
DROP INDEX policy_bindings_expires;
DROP TABLE policy_notices;
DROP TABLE policy_review_lines;
DROP TABLE policy_reviews;
