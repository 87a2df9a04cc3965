-- +goose Up

-- Positions: what wallets have in markets of protocols beside their tokens, of the last sync that read each market.

-- What a wallet has in a market. There is a row while it has something there, and while something is missing.
CREATE TABLE position_markets (
    wallet_id    uuid        NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    market       text        NOT NULL, -- the protocol, @ and the CAIP-10 account of its contract, in lower case
    missing      text        NOT NULL DEFAULT '', -- what the last sync could not read; what is stored of it holds on
    -- The account in a lending market, in a currency of which account_unit are one; NULL without one.
    collateral   numeric(78, 0) CHECK (collateral >= 0),
    debt         numeric(78, 0) CHECK (debt >= 0),
    account_unit numeric(78, 0) CHECK (account_unit > 0),
    threshold    numeric     CHECK (threshold >= 0),
    health       numeric     CHECK (health >= 0), -- NULL when the market sees no debt
    has_debt     boolean,
    e_mode       smallint,
    block_number bigint      NOT NULL, -- at which the account was read
    block_time   timestamptz NOT NULL,
    PRIMARY KEY (wallet_id, market)
);

CREATE TABLE positions (
    wallet_id    uuid           NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    market       text           NOT NULL,
    kind         text           NOT NULL
                 CHECK (kind IN ('SUPPLIED', 'BORROWED', 'STAKED', 'LIQUIDITY', 'CLAIMABLE', 'LOCKED')),
    rate_mode    text           NOT NULL DEFAULT '' CHECK (rate_mode IN ('', 'VARIABLE', 'STABLE')),
    asset        text           NOT NULL, -- CAIP-19; it need not be among the tokens
    amount       numeric(78, 0) NOT NULL CHECK (amount >= 0),
    receipt      text           NOT NULL DEFAULT '', -- CAIP-19 of the token that stands for it
    yearly_rate  text           NOT NULL DEFAULT '', -- a decimal, not compounded
    collateral   boolean        NOT NULL DEFAULT false,
    block_number bigint         NOT NULL,
    block_time   timestamptz    NOT NULL,
    PRIMARY KEY (wallet_id, market, kind, rate_mode, asset)
);

-- A position stands for the token: it is not counted beside it.
ALTER TABLE balances ADD COLUMN receipt boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE balances DROP COLUMN receipt;
DROP TABLE positions;
DROP TABLE position_markets;
