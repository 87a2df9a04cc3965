-- +goose Up
CREATE TABLE portfolios (
    id         uuid PRIMARY KEY,
    owner_id   uuid        NOT NULL,
    name       text        NOT NULL,
    is_default boolean     NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX portfolios_one_default ON portfolios (owner_id) WHERE is_default;

-- One row an hour (UTC). Totals are decimals without a scale.
CREATE TABLE snapshots (
    portfolio_id   uuid        NOT NULL REFERENCES portfolios (id) ON DELETE CASCADE,
    bucket         timestamptz NOT NULL,
    taken_at       timestamptz NOT NULL,
    currency       text        NOT NULL,
    total          numeric     NOT NULL CHECK (total >= 0),
    complete       boolean     NOT NULL,
    position_count integer     NOT NULL,
    unpriced_count integer     NOT NULL,
    PRIMARY KEY (portfolio_id, bucket),
    CONSTRAINT snapshots_on_the_hour CHECK (date_trunc('hour', bucket, 'UTC') = bucket)
) PARTITION BY RANGE (bucket);
CREATE TABLE snapshots_default PARTITION OF snapshots DEFAULT;

-- Amounts are base units, summed over wallets, so they can pass 2^256-1.
CREATE TABLE snapshot_positions (
    portfolio_id    uuid        NOT NULL,
    bucket          timestamptz NOT NULL,
    token_id        text        NOT NULL,
    symbol          text        NOT NULL,
    decimals        smallint    NOT NULL,
    verified        boolean     NOT NULL,
    amount          numeric     NOT NULL CHECK (amount >= 0),
    price           numeric,
    price_source    text        NOT NULL,
    price_time      timestamptz,
    price_stale     boolean     NOT NULL,
    value           numeric,
    unpriced_reason text        NOT NULL,
    PRIMARY KEY (portfolio_id, bucket, token_id),
    FOREIGN KEY (portfolio_id) REFERENCES portfolios (id) ON DELETE CASCADE
) PARTITION BY RANGE (bucket);
CREATE TABLE snapshot_positions_default PARTITION OF snapshot_positions DEFAULT;

-- +goose Down
DROP TABLE snapshot_positions;
DROP TABLE snapshots;
DROP TABLE portfolios;
