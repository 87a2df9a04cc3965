-- +goose Up
-- One row an issuer. The epoch rises with every change of the ring and is its
-- fence: a transition locks this row and compares the epoch.
CREATE TABLE key_ring (
    issuer text PRIMARY KEY,
    epoch  bigint NOT NULL
);

CREATE TABLE signing_keys (
    kid            text PRIMARY KEY,
    issuer         text        NOT NULL REFERENCES key_ring (issuer),
    algorithm      text        NOT NULL,
    state          text        NOT NULL CHECK (state IN ('PENDING', 'PUBLISHED', 'ACTIVE', 'RETIRING', 'RETIRED', 'COMPROMISED')),
    public_key     bytea       NOT NULL,
    -- AES-256-GCM under a data key of this row's own, which is itself sealed
    -- under the key-encryption key.
    sealed_private bytea,
    wrapped_key    bytea,
    created_at     timestamptz NOT NULL,
    published_at   timestamptz,
    activated_at   timestamptz
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (issuer) WHERE state = 'ACTIVE';

-- +goose Down
DROP TABLE signing_keys;
DROP TABLE key_ring;
