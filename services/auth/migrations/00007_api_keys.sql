-- +goose Up
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         text        NOT NULL,
    -- SHA-256 of the key, which is kept nowhere.
    hash         bytea       NOT NULL UNIQUE,
    scopes       jsonb       NOT NULL,
    allowed      jsonb       NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX api_keys_user ON api_keys (user_id, id);

-- +goose Down
DROP TABLE api_keys;
