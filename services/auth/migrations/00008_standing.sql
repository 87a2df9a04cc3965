-- +goose Up
ALTER TABLE users
    -- An account of a wallet has no address; one of another provider no password.
    ALTER COLUMN email DROP NOT NULL,
    ALTER COLUMN password_hash DROP NOT NULL,
    ADD COLUMN email_verified_at timestamptz,
    ADD COLUMN attributes        jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN disabled_at       timestamptz;

ALTER TABLE sessions
    -- How it was signed in to (RFC 8176), and when that was proven last.
    ADD COLUMN methods   jsonb NOT NULL DEFAULT '["pwd"]',
    ADD COLUMN auth_time timestamptz;
UPDATE sessions SET auth_time = created_at;

-- What verifiers have to hear of before the tokens concerned end by
-- themselves. Rows are of no use once that is so, and pruned.
CREATE TABLE revocations (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind    text        NOT NULL CHECK (kind IN ('SESSION', 'USER')),
    subject uuid        NOT NULL
);
CREATE INDEX revocations_at ON revocations (at);

CREATE TABLE cache_invalidations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      bytea       NOT NULL,
    noted_at timestamptz NOT NULL
);
CREATE INDEX cache_invalidations_key ON cache_invalidations USING hash (key);

-- Where an event came from stands apart, so that it can be erased: what is
-- left in the event is a digest that can't be guessed back without the salt.
CREATE TABLE audit_events (
    id              uuid        PRIMARY KEY,
    at              timestamptz NOT NULL,
    type            text        NOT NULL,
    outcome         text        NOT NULL CHECK (outcome IN ('OK', 'REFUSED')),
    reason          text        NOT NULL,
    actor           uuid, -- who did it
    subject         uuid, -- whose account it concerns
    object          text        NOT NULL,
    personal_digest bytea       NOT NULL,
    seal            bigint
);
CREATE INDEX audit_events_subject ON audit_events (subject, id);
CREATE INDEX audit_events_actor ON audit_events (actor, id);
CREATE INDEX audit_events_unsealed ON audit_events (id) WHERE seal IS NULL;

CREATE TABLE audit_personal (
    event_id uuid  PRIMARY KEY REFERENCES audit_events (id),
    subject  uuid,
    salt     bytea NOT NULL,
    address  text  NOT NULL,
    device   text  NOT NULL
);
CREATE INDEX audit_personal_subject ON audit_personal (subject);

-- An event never changes, but for the seal that it gets once.
-- +goose StatementBegin
CREATE FUNCTION audit_events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.seal IS NULL AND NEW.seal IS NOT NULL
        AND (to_jsonb(NEW) - 'seal') = (to_jsonb(OLD) - 'seal') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'audit_events is append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_append_only();

-- +goose Down
DROP TABLE audit_personal;
DROP TABLE audit_events;
DROP FUNCTION audit_events_append_only;
DROP TABLE cache_invalidations;
DROP TABLE revocations;
ALTER TABLE sessions DROP COLUMN auth_time, DROP COLUMN methods;
-- Accounts that the schema before can't hold.
DELETE FROM users WHERE email IS NULL OR password_hash IS NULL;
ALTER TABLE users
    DROP COLUMN disabled_at, DROP COLUMN attributes, DROP COLUMN email_verified_at,
    ALTER COLUMN password_hash SET NOT NULL, ALTER COLUMN email SET NOT NULL;
