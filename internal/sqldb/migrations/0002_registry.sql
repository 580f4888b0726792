-- +goose Up

-- Times are in microseconds since 1970, UTC. Text and notes of versions are sealed, bound to table, row, column and project; names,
-- descriptions, tags, labels and digests are plain, so that they can be searched.

CREATE TABLE registry_projects (
    id            TEXT     NOT NULL PRIMARY KEY,
    name          {{sorted}} NOT NULL UNIQUE,
    description   TEXT     NOT NULL,
    default_label TEXT     NOT NULL,
    created_at    BIGINT   NOT NULL,
    revision      BIGINT   NOT NULL
);

-- tags, variables and aliases are JSON arrays of strings; registry_tags and registry_handles are what is searched. search is name
-- and description in lower case.
CREATE TABLE registry_prompts (
    project        TEXT     NOT NULL REFERENCES registry_projects (id),
    id             TEXT     NOT NULL,
    name           {{sorted}} NOT NULL,
    kind           TEXT     NOT NULL,
    description    TEXT     NOT NULL,
    category       TEXT     NOT NULL,
    tags           TEXT     NOT NULL,
    owner          TEXT     NOT NULL,
    archived       BOOLEAN  NOT NULL,
    latest_version BIGINT   NOT NULL,
    variables      TEXT     NOT NULL,
    aliases        TEXT     NOT NULL,
    search         TEXT     NOT NULL,
    created_at     BIGINT   NOT NULL,
    updated_at     BIGINT   NOT NULL,
    revision       BIGINT   NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE UNIQUE INDEX registry_prompts_name ON registry_prompts (project, name);

-- Every name, alias and id that a prompt ever had. A row is never deleted: what was given away once cannot mean another prompt
-- later. kind is id, name, alias or retired; a retired one answers no more.
CREATE TABLE registry_handles (
    project   TEXT NOT NULL,
    handle    TEXT NOT NULL,
    prompt_id TEXT NOT NULL,
    kind      TEXT NOT NULL,
    PRIMARY KEY (project, handle)
);

CREATE INDEX registry_handles_prompt ON registry_handles (project, prompt_id);

CREATE TABLE registry_tags (
    project   TEXT NOT NULL,
    tag       TEXT NOT NULL,
    prompt_id TEXT NOT NULL,
    PRIMARY KEY (project, tag, prompt_id)
);

CREATE INDEX registry_tags_prompt ON registry_tags (project, prompt_id);

CREATE TABLE registry_versions (
    project    TEXT     NOT NULL,
    prompt_id  TEXT     NOT NULL,
    number     BIGINT   NOT NULL CHECK (number >= 1),
    digest     TEXT     NOT NULL,
    author     TEXT     NOT NULL,
    parent     BIGINT   NOT NULL,
    content    {{blob}} NOT NULL,
    note       {{blob}} NOT NULL,
    created_at BIGINT   NOT NULL,
    revision   BIGINT   NOT NULL,
    PRIMARY KEY (project, prompt_id, number)
);

CREATE TABLE registry_labels (
    project   TEXT     NOT NULL,
    prompt_id TEXT     NOT NULL,
    name      {{sorted}} NOT NULL,
    version   BIGINT   NOT NULL,
    moved_at  BIGINT   NOT NULL,
    revision  BIGINT   NOT NULL,
    target_kind TEXT   NOT NULL DEFAULT '',
    PRIMARY KEY (project, prompt_id, name)
);

CREATE TABLE registry_label_events (
    project      TEXT     NOT NULL,
    prompt_id    TEXT     NOT NULL,
    revision     BIGINT   NOT NULL,
    label        {{sorted}} NOT NULL,
    from_version BIGINT   NOT NULL,
    to_version   BIGINT   NOT NULL,
    at           BIGINT   NOT NULL,
    actor_kind   TEXT     NOT NULL,
    actor_id     TEXT     NOT NULL,
    actor_name   TEXT     NOT NULL,
    why          TEXT     NOT NULL,
    PRIMARY KEY (project, prompt_id, revision, label)
);

-- +goose Down
DROP TABLE registry_label_events;
DROP TABLE registry_labels;
DROP TABLE registry_versions;
DROP TABLE registry_tags;
DROP TABLE registry_handles;
DROP TABLE registry_prompts;
DROP TABLE registry_projects;
