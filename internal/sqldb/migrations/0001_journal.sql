-- +goose Up

-- One row: the revision that was given last and the hash it ended in. Every change locks it, last, and moves it by one.
CREATE TABLE journal_head (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    revision BIGINT  NOT NULL,
    hash     {{blob}} NOT NULL
);

INSERT INTO journal_head (id, revision, hash) VALUES (1, 0, '');

-- The chain. at is in microseconds since 1970, UTC: a number is hashed the same on both dialects. written is a MAC of each row that the change wrote
-- and a mark for each that it took away (internal/authentic): what the chain does not say of a row is not believed.
CREATE TABLE journal_events (
    revision      BIGINT PRIMARY KEY,
    at            BIGINT NOT NULL,
    project       TEXT   NOT NULL,
    actor_kind    TEXT   NOT NULL,
    actor_id      TEXT   NOT NULL,
    actor_name    TEXT   NOT NULL,
    action        TEXT   NOT NULL,
    object        TEXT   NOT NULL,
    why           TEXT   NOT NULL,
    from_addr     TEXT   NOT NULL,
    touches       TEXT   NOT NULL,
    before_commit {{blob}} NOT NULL,
    after_commit  {{blob}} NOT NULL,
    written       {{blob}} NOT NULL,
    prev_hash     {{blob}} NOT NULL,
    hash          {{blob}} NOT NULL
);

CREATE INDEX journal_events_project ON journal_events (project, revision);
CREATE INDEX journal_events_object ON journal_events (object, revision);
CREATE INDEX journal_events_actor ON journal_events (actor_id, revision);

-- What changed, sealed. Shredding empties both columns and stays provable: the chain holds salted commitments only.
CREATE TABLE journal_payloads (
    revision BIGINT  PRIMARY KEY REFERENCES journal_events (revision),
    shredded BOOLEAN NOT NULL DEFAULT FALSE,
    before_sealed {{blob}} NOT NULL,
    after_sealed  {{blob}} NOT NULL
);

-- One row: the data keys, sealed under the master key, which is never in the database.
CREATE TABLE journal_keyset (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    master     TEXT    NOT NULL,
    keyset     {{blob}} NOT NULL,
    root       {{blob}} NOT NULL,
    revision   BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL
);

-- +goose Down
DROP TABLE journal_keyset;
DROP TABLE journal_payloads;
DROP TABLE journal_events;
DROP TABLE journal_head;
