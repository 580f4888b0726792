-- +goose Up

-- A key's successor and predecessor, when it was rotated; '' is none.
ALTER TABLE policy_keys ADD COLUMN replaces TEXT NOT NULL DEFAULT '';
ALTER TABLE policy_keys ADD COLUMN replaced_by TEXT NOT NULL DEFAULT '';
CREATE INDEX policy_keys_expires ON policy_keys (expires_at);

-- +goose Down
DROP INDEX policy_keys_expires;
ALTER TABLE policy_keys DROP COLUMN replaced_by;
ALTER TABLE policy_keys DROP COLUMN replaces;
