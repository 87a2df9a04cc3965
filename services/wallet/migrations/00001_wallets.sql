-- +goose Up
CREATE TABLE wallets (
    id           uuid PRIMARY KEY,
    owner_id     uuid        NOT NULL,
    -- CAIP-10, lower case.
    account      text        NOT NULL,
    label        text        NOT NULL DEFAULT '',
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    sync_state   text        NOT NULL DEFAULT 'PENDING' CHECK (sync_state IN ('PENDING', 'SYNCING', 'SYNCED', 'FAILED')),
    synced_block bigint      NOT NULL DEFAULT 0,
    synced_at    timestamptz,
    sync_error   text        NOT NULL DEFAULT '',
    retry_at     timestamptz,
    CONSTRAINT wallets_owner_account_key UNIQUE (owner_id, account),
    CONSTRAINT wallets_account_lower CHECK (account = lower(account))
);
CREATE INDEX wallets_owner ON wallets (owner_id, id);

CREATE TABLE tokens (
    -- CAIP-19, lower case.
    id       text PRIMARY KEY,
    chain    text     NOT NULL,
    -- '' for the native coin.
    contract text     NOT NULL DEFAULT '',
    symbol   text     NOT NULL,
    name     text     NOT NULL,
    decimals smallint NOT NULL CHECK (decimals BETWEEN 0 AND 255),
    verified boolean  NOT NULL,
    CONSTRAINT tokens_chain_contract_key UNIQUE (chain, contract)
);

-- The balance of a wallet as of the newest block it was read at. Amounts are
-- base units: 2^256-1 has 78 digits.
CREATE TABLE balances (
    wallet_id    uuid           NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    token_id     text           NOT NULL REFERENCES tokens (id),
    amount       numeric(78, 0) NOT NULL CHECK (amount >= 0),
    block_number bigint         NOT NULL,
    block_hash   bytea          NOT NULL,
    block_time   timestamptz    NOT NULL,
    PRIMARY KEY (wallet_id, token_id)
);

-- What a request_id was answered with.
CREATE TABLE requests (
    owner_id     uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    method       text        NOT NULL,
    request_hash bytea       NOT NULL,
    response     bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (owner_id, request_id)
);

-- +goose Down
DROP TABLE requests;
DROP TABLE balances;
DROP TABLE tokens;
DROP TABLE wallets;
