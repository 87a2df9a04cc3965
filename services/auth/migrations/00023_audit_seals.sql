-- +goose Up
-- The chain over the audit events: each seal's hash is over its events and the
-- seal before.
CREATE TABLE audit_seals (
    number   bigint      PRIMARY KEY,
    at       timestamptz NOT NULL,
    events   integer     NOT NULL,
    previous bytea       NOT NULL,
    hash     bytea       NOT NULL
);
CREATE INDEX audit_events_seal ON audit_events (seal, id) WHERE seal IS NOT NULL;

-- +goose Down
DROP INDEX audit_events_seal;
DROP TABLE audit_seals;
