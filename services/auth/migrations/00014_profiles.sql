-- +goose Up
ALTER TABLE users
    ADD COLUMN first_name         text  NOT NULL DEFAULT '',
    ADD COLUMN last_name          text  NOT NULL DEFAULT '',
    ADD COLUMN bio                text  NOT NULL DEFAULT '',
    ADD COLUMN time_zone          text  NOT NULL DEFAULT '',
    ADD COLUMN preferred_currency text  NOT NULL DEFAULT '',
    ADD COLUMN picture_url        text  NOT NULL DEFAULT '',
    ADD COLUMN notifications      jsonb NOT NULL DEFAULT '{}';

-- What was mailed to prove that a mail was read: by hash, one of a purpose at a
-- time, gone once it was used.
CREATE TABLE mailed_tokens (
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    text        NOT NULL CHECK (purpose IN ('VERIFY_EMAIL', 'RESET_PASSWORD')),
    hash       bytea       NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, purpose)
);

-- +goose Down
DROP TABLE mailed_tokens;
ALTER TABLE users
    DROP COLUMN notifications, DROP COLUMN picture_url, DROP COLUMN preferred_currency, DROP COLUMN time_zone,
    DROP COLUMN bio, DROP COLUMN last_name, DROP COLUMN first_name;
