-- +goose Up
ALTER TABLE refresh_tokens
    ADD COLUMN used_at          timestamptz,
    ADD COLUMN sealed_successor bytea;
CREATE INDEX refresh_tokens_recoverable ON refresh_tokens (session_id) WHERE sealed_successor IS NOT NULL;

UPDATE refresh_tokens t SET used_at = s.rotated_at, sealed_successor = s.sealed_successor
FROM sessions s WHERE s.id = t.session_id AND s.previous_hash = t.token_hash AND s.sealed_successor IS NOT NULL;

ALTER TABLE sessions
    DROP COLUMN previous_hash,
    DROP COLUMN rotated_at,
    DROP COLUMN sealed_successor,
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN device       text NOT NULL DEFAULT '',
    ADD COLUMN address      text NOT NULL DEFAULT '';
UPDATE sessions SET last_used_at = created_at;
ALTER TABLE sessions ALTER COLUMN last_used_at SET NOT NULL;

-- +goose Down
ALTER TABLE sessions
    DROP COLUMN address,
    DROP COLUMN device,
    DROP COLUMN last_used_at,
    ADD COLUMN previous_hash    bytea,
    ADD COLUMN rotated_at       timestamptz,
    ADD COLUMN sealed_successor bytea;
ALTER TABLE refresh_tokens
    DROP COLUMN sealed_successor,
    DROP COLUMN used_at;
