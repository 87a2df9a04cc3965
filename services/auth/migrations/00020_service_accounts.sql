-- +goose Up
CREATE TABLE service_accounts (
    id          uuid PRIMARY KEY,
    name        text        NOT NULL CONSTRAINT service_accounts_name_key UNIQUE,
    permissions jsonb       NOT NULL,
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz
);

CREATE TABLE service_secrets (
    id           uuid PRIMARY KEY,
    account_id   uuid        NOT NULL REFERENCES service_accounts (id) ON DELETE CASCADE,
    -- SHA-256 of the secret, which is kept nowhere.
    hash         bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz, -- none while it is the newest
    last_used_at timestamptz
);
CREATE INDEX service_secrets_account ON service_secrets (account_id, id);

-- What administrators look accounts and events up by.
CREATE INDEX users_email_prefix ON users (email text_pattern_ops);
CREATE INDEX user_roles_role ON user_roles (role, user_id);
CREATE INDEX audit_events_type ON audit_events (type, id);

-- +goose Down
DROP INDEX audit_events_type;
DROP INDEX user_roles_role;
DROP INDEX users_email_prefix;
DROP TABLE service_secrets;
DROP TABLE service_accounts;
