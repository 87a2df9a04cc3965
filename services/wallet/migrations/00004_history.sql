-- +goose Up
-- Which hours of a wallet were read, at the last block at or before the hour;
-- block 0 without a time when the chain had not begun. A row without balances
-- is a wallet that held nothing.
CREATE TABLE wallet_history (
    wallet_id    uuid        NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    hour         timestamptz NOT NULL,
    block_number bigint      NOT NULL,
    block_hash   bytea       NOT NULL,
    block_time   timestamptz,
    token_count  integer     NOT NULL,
    -- Tokens that could not be read, in words.
    unread       text        NOT NULL DEFAULT '',
    read_at      timestamptz NOT NULL,
    PRIMARY KEY (wallet_id, hour),
    CONSTRAINT wallet_history_on_the_hour CHECK (date_trunc('hour', hour, 'UTC') = hour)
) PARTITION BY RANGE (hour);
CREATE TABLE wallet_history_default PARTITION OF wallet_history DEFAULT;

-- Balances above zero in the hours of wallet_history.
CREATE TABLE balance_history (
    wallet_id uuid           NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    hour      timestamptz    NOT NULL,
    token_id  text           NOT NULL REFERENCES tokens (id),
    amount    numeric(78, 0) NOT NULL CHECK (amount > 0),
    PRIMARY KEY (wallet_id, hour, token_id)
) PARTITION BY RANGE (hour);
CREATE TABLE balance_history_default PARTITION OF balance_history DEFAULT;

-- The last price at or before an hour, per whole token; a row without one says
-- that the source had none when it was asked.
CREATE TABLE price_history (
    token_id   text        NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    hour       timestamptz NOT NULL,
    price      numeric     CHECK (price > 0),
    source     text        NOT NULL,
    price_time timestamptz,
    asked_at   timestamptz NOT NULL,
    PRIMARY KEY (token_id, hour)
) PARTITION BY RANGE (hour);
CREATE TABLE price_history_default PARTITION OF price_history DEFAULT;

-- +goose Down
DROP TABLE price_history;
DROP TABLE balance_history;
DROP TABLE wallet_history;
