-- +goose Up
-- Who somebody is elsewhere: an account of an identity provider, or a wallet.
CREATE TABLE identities (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider     text        NOT NULL,
    subject      text        NOT NULL,
    label        text        NOT NULL, -- what its owner knows it by
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    CONSTRAINT identities_provider_subject UNIQUE (provider, subject)
);
CREATE INDEX identities_user ON identities (user_id, id);

-- +goose Down
DROP TABLE identities;
