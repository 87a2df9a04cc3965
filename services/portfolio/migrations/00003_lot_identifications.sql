-- +goose Up

-- What IdentifyLots was told: from which lots a disposal takes. A row is never changed, so that what was recorded at
-- or before a disposal stays what it was.
CREATE TABLE lot_identifications (
    owner_id         uuid        NOT NULL,
    id               uuid        NOT NULL,
    wallet_id        uuid        NOT NULL,
    token_id         text        NOT NULL,
    transaction_hash text        NOT NULL, -- '' for the next disposal
    lots             text[]      NOT NULL,
    quantities       text[]      NOT NULL, -- of the lots, in base units
    recorded_at      timestamptz NOT NULL, -- by the clock of the database
    PRIMARY KEY (owner_id, id)
);

-- +goose Down
DROP TABLE lot_identifications;
