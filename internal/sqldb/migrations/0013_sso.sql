-- +goose Up

-- Identity providers that people sign in with, and directories that provision accounts. Times are in microseconds since 1970, UTC; 0 is never.

-- secret is sealed; scopes and domains are JSON arrays, groups a JSON object: a value of the group claim and the group that it stands for.
CREATE TABLE policy_issuers (
    id          TEXT     NOT NULL PRIMARY KEY,
    name        {{sorted}} NOT NULL UNIQUE,
    url         TEXT     NOT NULL,
    client_id   TEXT     NOT NULL,
    secret      {{blob}} NOT NULL,
    scopes      TEXT     NOT NULL,
    domains     TEXT     NOT NULL,
    group_claim TEXT     NOT NULL,
    groups      TEXT     NOT NULL,
    creates     BOOLEAN  NOT NULL,
    created_by  TEXT     NOT NULL,
    created_at  BIGINT   NOT NULL,
    revision    BIGINT   NOT NULL
);

-- Whose word about e-mail addresses of a domain is taken. enforced: who has one there signs in that way alone.
CREATE TABLE policy_domains (
    domain   {{sorted}} NOT NULL PRIMARY KEY,
    issuer   TEXT     NOT NULL REFERENCES policy_issuers (id),
    enforced BOOLEAN  NOT NULL,
    revision BIGINT   NOT NULL
);

CREATE INDEX policy_domains_issuer ON policy_domains (issuer);

-- Who somebody is at a provider: issuer and subject. email is what the provider said when it was linked.
CREATE TABLE policy_identities (
    issuer     TEXT     NOT NULL REFERENCES policy_issuers (id),
    subject    {{sorted}} NOT NULL,
    user_id    TEXT     NOT NULL REFERENCES policy_users (id),
    email      TEXT     NOT NULL,
    created_at BIGINT   NOT NULL,
    revision   BIGINT   NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE INDEX policy_identities_user ON policy_identities (user_id);

-- What was used once and what ends by itself: states of sign-ins, ids of logout tokens, a provider's session ids. Without a journal: who alters it can have
-- a token taken again that ends sessions, or a sign-in fail.
CREATE TABLE policy_sso_notes (
    kind    TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    value   TEXT   NOT NULL,
    ends_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE INDEX policy_sso_notes_end ON policy_sso_notes (ends_at);

-- Tokens of directories. hash is a keyed hash; domains a JSON array.
CREATE TABLE policy_scim_tokens (
    id         TEXT     NOT NULL PRIMARY KEY,
    directory  TEXT     NOT NULL,
    lookup     TEXT     NOT NULL UNIQUE,
    hash       {{blob}} NOT NULL,
    last_four  TEXT     NOT NULL,
    domains    TEXT     NOT NULL,
    created_by TEXT     NOT NULL,
    created_at BIGINT   NOT NULL,
    expires_at BIGINT   NOT NULL,
    revoked_at BIGINT   NOT NULL,
    revision   BIGINT   NOT NULL
);

-- When a token was last used, for people to read; without a journal.
CREATE TABLE policy_scim_uses (
    token   TEXT   NOT NULL PRIMARY KEY,
    used_at BIGINT NOT NULL
);

-- What a directory provisions: accounts and groups. user_name is folded; profile is what it sent of an account (JSON). ended_at is when the directory
-- deactivated the account: it activates none that somebody else deactivated. deleted: the directory took it away.
CREATE TABLE policy_provisions (
    id         TEXT     NOT NULL PRIMARY KEY,
    directory  TEXT     NOT NULL,
    user_name  {{sorted}} NOT NULL,
    external   TEXT     NOT NULL,
    profile    TEXT     NOT NULL,
    ended_at   BIGINT   NOT NULL,
    deleted    BOOLEAN  NOT NULL,
    created_at BIGINT   NOT NULL,
    revision   BIGINT   NOT NULL
);

CREATE INDEX policy_provisions_name ON policy_provisions (directory, user_name);
CREATE INDEX policy_provisions_external ON policy_provisions (directory, external);

-- +goose Down
DROP TABLE policy_provisions;
DROP TABLE policy_scim_uses;
DROP TABLE policy_scim_tokens;
DROP TABLE policy_sso_notes;
DROP TABLE policy_identities;
DROP TABLE policy_domains;
DROP TABLE policy_issuers;
