-- +goose Up

-- A project's own providers. Times are in microseconds since 1970, UTC. credential is sealed, bound to table, row, column and
-- project; empty when there is none. models is a JSON array of names and patterns, prices a JSON object {catalogue, prices}.
CREATE TABLE registry_providers (
    project        TEXT     NOT NULL,
    id             TEXT     NOT NULL,
    name           {{sorted}} NOT NULL,
    kind           TEXT     NOT NULL,
    base_url       TEXT     NOT NULL,
    organization   TEXT     NOT NULL,
    openai_project TEXT     NOT NULL,
    models         TEXT     NOT NULL,
    enabled        BOOLEAN  NOT NULL,
    prices         TEXT     NOT NULL,
    credential     {{blob}} NOT NULL,
    created_at     BIGINT   NOT NULL,
    updated_at     BIGINT   NOT NULL,
    revision       BIGINT   NOT NULL,
    PRIMARY KEY (project, id)
);

CREATE UNIQUE INDEX registry_providers_name ON registry_providers (project, name);

-- Model names of a project's own. targets is a JSON array of {provider, model}, in the order of preference; providers are named,
-- not referenced: they may be configured ones, which no table holds.
CREATE TABLE registry_models (
    project    TEXT     NOT NULL,
    name       {{sorted}} NOT NULL,
    targets    TEXT     NOT NULL,
    updated_at BIGINT   NOT NULL,
    revision   BIGINT   NOT NULL,
    PRIMARY KEY (project, name)
);

-- +goose Down
DROP TABLE registry_models;
DROP TABLE registry_providers;
