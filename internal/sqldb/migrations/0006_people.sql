-- +goose Up

-- Accounts of the installation. Times are in microseconds since 1970, UTC; 0 is never. email is in its one spelling; epoch counts what ended the
-- account's sessions. How it signs in stands in tables of its own.
CREATE TABLE policy_users (
    id          TEXT     NOT NULL PRIMARY KEY,
    email       {{sorted}} NOT NULL UNIQUE,
    name        TEXT     NOT NULL,
    state       TEXT     NOT NULL,
    operator    BOOLEAN  NOT NULL,
    break_glass BOOLEAN  NOT NULL,
    external    TEXT     NOT NULL,
    epoch       BIGINT   NOT NULL,
    created_by  TEXT     NOT NULL,
    created_at  BIGINT   NOT NULL,
    ended_at    BIGINT   NOT NULL,
    revision    BIGINT   NOT NULL
);

CREATE INDEX policy_users_external ON policy_users (external);

CREATE TABLE policy_groups (
    id          TEXT     NOT NULL PRIMARY KEY,
    name        {{sorted}} NOT NULL UNIQUE,
    description TEXT     NOT NULL,
    external    TEXT     NOT NULL,
    created_by  TEXT     NOT NULL,
    created_at  BIGINT   NOT NULL,
    revision    BIGINT   NOT NULL
);

CREATE INDEX policy_groups_external ON policy_groups (external);

CREATE TABLE policy_group_members (
    user_id  TEXT   NOT NULL REFERENCES policy_users (id),
    group_id TEXT   NOT NULL REFERENCES policy_groups (id),
    source   TEXT   NOT NULL,
    added_by TEXT   NOT NULL,
    added_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (user_id, group_id)
);

CREATE INDEX policy_group_members_group ON policy_group_members (group_id, user_id);

-- A project's own roles; actions is a JSON array.
CREATE TABLE policy_roles (
    project     TEXT     NOT NULL,
    name        {{sorted}} NOT NULL,
    description TEXT     NOT NULL,
    actions     TEXT     NOT NULL,
    created_by  TEXT     NOT NULL,
    created_at  BIGINT   NOT NULL,
    revision    BIGINT   NOT NULL,
    PRIMARY KEY (project, name)
);

-- Who holds which role over what. prompts, labels and models are JSON arrays.
CREATE TABLE policy_bindings (
    project    TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    effect     TEXT   NOT NULL,
    prompts    TEXT   NOT NULL,
    labels     TEXT   NOT NULL,
    models     TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    granted_by TEXT   NOT NULL,
    granted_at BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    PRIMARY KEY (project, subject, id)
);

CREATE INDEX policy_bindings_subject ON policy_bindings (subject, project);

CREATE TABLE policy_service_accounts (
    project     TEXT     NOT NULL,
    id          {{sorted}} NOT NULL,
    name        TEXT     NOT NULL,
    description TEXT     NOT NULL,
    created_by  TEXT     NOT NULL,
    created_at  BIGINT   NOT NULL,
    ended_at    BIGINT   NOT NULL,
    revision    BIGINT   NOT NULL,
    PRIMARY KEY (project, id)
);

-- Whose key it is: '' is the project's own, else a user's or a service account's. inherits: it may do all that its owner may.
ALTER TABLE policy_keys ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE policy_keys ADD COLUMN inherits BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX policy_keys_owner ON policy_keys (owner, project);

-- +goose Down
DROP INDEX policy_keys_owner;
ALTER TABLE policy_keys DROP COLUMN inherits;
ALTER TABLE policy_keys DROP COLUMN owner;
DROP TABLE policy_service_accounts;
DROP TABLE policy_bindings;
DROP TABLE policy_roles;
DROP TABLE policy_group_members;
DROP TABLE policy_groups;
DROP TABLE policy_users;
