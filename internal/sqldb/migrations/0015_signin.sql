-- +goose Up

-- How accounts sign in. Times are in microseconds since 1970, UTC; 0 is never. Ids are keyed hashes: a token itself is nowhere.

-- A session is never changed: a new token is a new row. It is void once its account's epoch is another. idle is in microseconds.
CREATE TABLE policy_sessions (
    id         TEXT   NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL REFERENCES policy_users (id),
    epoch      BIGINT NOT NULL,
    method     TEXT   NOT NULL,
    factor     TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    user_agent TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    rotated_at BIGINT NOT NULL,
    idle       BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL,
    revision   BIGINT NOT NULL
);

CREATE INDEX policy_sessions_user ON policy_sessions (user_id, created_at);

-- When a session was last used and what its person could do then, sealed, without a journal: what is put back from before ends it sooner at the worst.
CREATE TABLE policy_session_seen (
    session_id TEXT     NOT NULL PRIMARY KEY,
    sealed     {{blob}} NOT NULL
);

-- One-time links; user_id is '' for the one that makes the first account. A link that was used, or that a newer one replaced, is gone.
CREATE TABLE policy_links (
    id         TEXT   NOT NULL PRIMARY KEY,
    purpose    TEXT   NOT NULL,
    user_id    TEXT   NOT NULL,
    ends_at    BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL
);

CREATE INDEX policy_links_user ON policy_links (user_id, purpose);

-- hash is the argon2id hash, sealed.
CREATE TABLE policy_passwords (
    user_id  TEXT     NOT NULL PRIMARY KEY REFERENCES policy_users (id),
    hash     {{blob}} NOT NULL,
    set_at   BIGINT   NOT NULL,
    revision BIGINT   NOT NULL
);

-- credential is the library's record (JSON): public key, flags, counter. issued_at is when the newest challenge was made that was answered: no older
-- answer is taken.
CREATE TABLE policy_passkeys (
    user_id    TEXT   NOT NULL REFERENCES policy_users (id),
    id         TEXT   NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    credential TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    issued_at  BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    PRIMARY KEY (user_id, id)
);

-- What a project demands of sessions: require is '', 'password' or 'passkey'.
CREATE TABLE policy_project_signin (
    project  TEXT   NOT NULL PRIMARY KEY,
    require  TEXT   NOT NULL,
    revision BIGINT NOT NULL
);

-- +goose Down
DROP TABLE policy_project_signin;
DROP TABLE policy_passkeys;
DROP TABLE policy_passwords;
DROP TABLE policy_links;
DROP TABLE policy_session_seen;
DROP TABLE policy_sessions;
