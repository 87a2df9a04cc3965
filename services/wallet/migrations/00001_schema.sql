-- +goose Up

-- The schema of the wallet service. Accounts are CAIP-10 and tokens CAIP-19, in
-- lower case. Amounts are in base units: 2^256-1 has 78 digits. Prices are US
-- dollars per whole token.

-- Wallets: the accounts that users watch, and the state of their last sync.

CREATE TABLE wallets (
    id           uuid        PRIMARY KEY,
    owner_id     uuid        NOT NULL,
    account      text        NOT NULL,
    label        text        NOT NULL DEFAULT '',
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    sync_state   text        NOT NULL DEFAULT 'PENDING'
                 CHECK (sync_state IN ('PENDING', 'SYNCING', 'SYNCED', 'FAILED')),
    synced_block bigint      NOT NULL DEFAULT 0, -- of the last success, like synced_at
    synced_at    timestamptz,
    sync_error   text        NOT NULL DEFAULT '',
    sync_reason  text        NOT NULL DEFAULT '', -- of the error, for programs
    -- FAILED: when the next sync may start. SYNCING: when the lease expires.
    retry_at     timestamptz,
    -- Since when the wallet is archived: it is neither synced nor valued.
    archived_at  timestamptz,
    -- When and by what the account signed for the owner; NULL of one that is watched.
    proven_at    timestamptz,
    proven_by    text        NOT NULL DEFAULT '' CHECK (proven_by IN ('', 'KEY', 'CONTRACT', 'IDENTITY')),
    CONSTRAINT wallets_owner_account_key UNIQUE (owner_id, account),
    CONSTRAINT wallets_account_lower CHECK (account = lower(account))
);

-- The pages of an owner's wallets.
CREATE INDEX wallets_owner ON wallets (owner_id, id);

-- The order in which the wallets of a chain are synced, without archived ones: those
-- that never were, then by the last sync, or the retry time after a failed one.
CREATE INDEX wallets_sync_queue ON wallets (
    split_part(account, ':', 2),
    coalesce(
        CASE sync_state WHEN 'PENDING' THEN NULL WHEN 'SYNCED' THEN synced_at ELSE retry_at END,
        '0001-01-01 00:00:00+00'::timestamptz
    ),
    id
) WHERE archived_at IS NULL;

-- The wallets of the accounts that a block has touched.
CREATE INDEX wallets_account ON wallets (account) WHERE archived_at IS NULL;

-- The response to each request_id, for repeated calls.
CREATE TABLE requests (
    owner_id     uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    method       text        NOT NULL,
    request_hash bytea       NOT NULL, -- SHA-256 of the request's fields
    response     bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (owner_id, request_id)
);

-- The message that a wallet's account is to sign, to prove that it is the owner's.
CREATE TABLE ownership_challenges (
    wallet_id  uuid        PRIMARY KEY REFERENCES wallets (id) ON DELETE CASCADE,
    message    text        NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Tokens: those whose balances are read.

CREATE TABLE tokens (
    id       text     PRIMARY KEY,
    chain    text     NOT NULL, -- CAIP-2
    contract text     NOT NULL DEFAULT '', -- '' for the native coin
    symbol   text     NOT NULL,
    name     text     NOT NULL,
    decimals smallint NOT NULL CHECK (decimals BETWEEN 0 AND 255),
    verified boolean  NOT NULL, -- on the deployment's token list
    -- The contract was asked for its decimals, and those in the row are its own.
    decimals_checked boolean NOT NULL DEFAULT false,
    -- Nothing is at the contract's address: such a token doesn't count as verified.
    without_code     boolean NOT NULL DEFAULT false,
    -- Found by a transfer, not on a token list: read for the wallets that moved it.
    discovered       boolean NOT NULL DEFAULT false,
    -- What it says of itself looks like an advertisement.
    spam             boolean NOT NULL DEFAULT false,
    CONSTRAINT tokens_chain_contract_key UNIQUE (chain, contract)
);

-- Balances: those of the newest block that each wallet was read at.

CREATE TABLE balances (
    wallet_id    uuid           NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    token_id     text           NOT NULL REFERENCES tokens (id),
    amount       numeric(78, 0) NOT NULL CHECK (amount >= 0),
    block_number bigint         NOT NULL, -- below zero when it was imported, see balance_changes
    block_hash   bytea          NOT NULL,
    block_time   timestamptz    NOT NULL,
    -- Of the first sync that read the token; NULL when that is block_number's.
    first_block_number bigint,
    first_block_time   timestamptz,
    -- A position stands for the token: it is not counted beside it.
    receipt      boolean        NOT NULL DEFAULT false,
    PRIMARY KEY (wallet_id, token_id)
);

-- Balances by change: what each sync read that found another amount than the one
-- before. A balance that was never above zero has no row. Imported ones have a
-- number below zero in place of a block's, in the order of their times: microseconds
-- since 1970 less 2^62. They are before the first time that the chain tells of the token.
CREATE TABLE balance_changes (
    wallet_id    uuid           NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    token_id     text           NOT NULL REFERENCES tokens (id),
    block_number bigint         NOT NULL,
    block_hash   bytea          NOT NULL,
    block_time   timestamptz    NOT NULL,
    amount       numeric(78, 0) NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (wallet_id, token_id, block_number)
);

-- The last change at a time.
CREATE INDEX balance_changes_time ON balance_changes (wallet_id, token_id, block_time);

-- Transactions: what moved the balances of wallets.

-- Up to which block each wallet's movements were looked for.
CREATE TABLE transaction_scans (
    wallet_id     uuid   PRIMARY KEY REFERENCES wallets (id) ON DELETE CASCADE,
    scanned_block bigint NOT NULL CHECK (scanned_block >= 0)
);

-- Blocks at which scans ended, by which a reorg is recognised.
CREATE TABLE scanned_blocks (
    chain        bigint NOT NULL,
    block_number bigint NOT NULL,
    block_hash   bytea  NOT NULL,
    PRIMARY KEY (chain, block_number)
);

-- Tokens that a wallet was seen to have moved, besides those of the token list: their
-- balances are read too.
CREATE TABLE wallet_tokens (
    wallet_id   uuid   NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    token_id    text   NOT NULL REFERENCES tokens (id),
    first_block bigint NOT NULL, -- those that came first are read, when there are too many
    PRIMARY KEY (wallet_id, token_id)
);

-- The movements of a wallet. The key is also their order: by block, by transaction, and
-- in it the fee, the coin that the transaction itself moved, then the events. Of
-- each wallet and token the amounts of all rows add up to the balance of the last sync:
-- what no movement explains between two balances that differ is an ADJUSTMENT at the
-- block of the second one.
CREATE TABLE transactions (
    wallet_id         uuid           NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    block_number      bigint         NOT NULL,
    transaction_index integer        NOT NULL, -- 2147483647 of an adjustment
    log_index         integer        NOT NULL, -- -2 of a fee, -1 of the coin
    token_id          text           NOT NULL REFERENCES tokens (id),
    kind              text           NOT NULL CHECK (kind IN ('TRANSFER', 'FEE', 'ADJUSTMENT')),
    -- Below zero when it left the wallet. An adjustment may have more than 78 digits: a
    -- hostile contract's events add up to whatever it likes.
    amount            numeric        NOT NULL,
    self_amount       numeric(78, 0) NOT NULL DEFAULT 0, -- of a transfer of the wallet to itself
    counterparty      text           NOT NULL DEFAULT '', -- the address, in lower case
    hash              bytea          NOT NULL, -- of the transaction; empty of an adjustment
    block_hash        bytea          NOT NULL,
    block_time        timestamptz    NOT NULL,
    -- The importer's id of an imported one, whose block_number is below zero, as in balance_changes.
    row_id            text           NOT NULL DEFAULT '',
    PRIMARY KEY (wallet_id, block_number, transaction_index, log_index, token_id)
);

-- The movements of one token, and the adjustments of it.
CREATE INDEX transactions_token ON transactions (wallet_id, token_id, block_number);

-- An imported row is stored once.
CREATE UNIQUE INDEX transactions_row_id ON transactions (wallet_id, row_id) WHERE row_id <> '';

-- Chains: by which blocks it is recognised that one was reset.

-- Blocks that a chain had: the first, powers of two, and ever fewer of the others the older they are.
CREATE TABLE chain_blocks (
    chain        bigint NOT NULL,
    block_number bigint NOT NULL,
    block_hash   bytea  NOT NULL,
    PRIMARY KEY (chain, block_number)
);

-- Chains that look reset, or were. What was read of one is forgotten wallet by wallet, in the order of their ids.
CREATE TABLE chain_resets (
    chain             bigint      PRIMARY KEY,
    suspected_at      timestamptz, -- NULL while the chain has the blocks of chain_blocks
    seen              integer     NOT NULL DEFAULT 0,  -- how often they were found to be others
    last_seen_at      timestamptz,
    evidence          text        NOT NULL DEFAULT '', -- what was found
    forgetting        boolean     NOT NULL DEFAULT false,
    forgotten_through uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    forgotten_at      timestamptz -- when all of it was, the last time
);

-- The newest block of each chain whose transfers were looked for, by the replica that follows the chain until its
-- lease ends.
CREATE TABLE chain_heads (
    chain        bigint      PRIMARY KEY,
    replica      uuid        NOT NULL,
    lease_until  timestamptz NOT NULL,
    block_number bigint      NOT NULL DEFAULT 0,
    block_hash   bytea       NOT NULL DEFAULT '\x'
);

-- Prices: the newest one of each token, and of each currency under its code of ISO 4217.

CREATE TABLE prices (
    token_id         text        PRIMARY KEY,
    price            numeric     NOT NULL CHECK (price > 0),
    source           text        NOT NULL,
    price_time       timestamptz NOT NULL, -- the source's own time of the price
    good_for_seconds bigint      NOT NULL DEFAULT 0, -- for how long the source states that it holds
    -- The price of another source that differs by more than the limit.
    other_source     text        NOT NULL DEFAULT '',
    other_price      numeric     CHECK (other_price > 0),
    other_time       timestamptz,
    fetched_at       timestamptz NOT NULL
);

-- Prices that were imported. Fetched ones never replace them, nor they those.
CREATE TABLE imported_prices (
    token_id    text        NOT NULL,
    price_time  timestamptz NOT NULL,
    price       numeric     NOT NULL CHECK (price > 0),
    imported_at timestamptz NOT NULL,
    PRIMARY KEY (token_id, price_time)
);

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
    growth_index numeric(78, 0) NOT NULL DEFAULT 0, -- in the market's own scale; 0 without one
    collateral   boolean        NOT NULL DEFAULT false,
    block_number bigint         NOT NULL,
    block_time   timestamptz    NOT NULL,
    PRIMARY KEY (wallet_id, market, kind, rate_mode, asset)
);

-- History: what wallets held at the start of past hours, and prices then.

-- Which hours of a wallet were read: some in a row that were read alike, from this one on, all of one frame. A frame
-- is days 1 to 7 of a month, 8 to 14, 15 to 21, 22 to 28 or the last ones.
CREATE TABLE wallet_history (
    wallet_id    uuid        NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    hour         timestamptz NOT NULL,
    hours        smallint    NOT NULL CHECK (hours BETWEEN 1 AND 168),
    asset_count  integer     NOT NULL, -- known tokens and markets of the chain
    unread       text        NOT NULL DEFAULT '', -- the tokens that could not be read, as a text
    markets_unread boolean  NOT NULL DEFAULT false, -- position_history says what is missing
    read_at      timestamptz NOT NULL,
    PRIMARY KEY (wallet_id, hour),
    CONSTRAINT wallet_history_on_the_hour CHECK (date_trunc('hour', hour, 'UTC') = hour)
) PARTITION BY RANGE (hour);
CREATE TABLE wallet_history_default PARTITION OF wallet_history DEFAULT;

-- Balances of the hours of wallet_history, by change within a frame: the amount from an hour on until the token's next
-- row, or the end of the frame. The first hour of a frame that was read has all that are above zero.
CREATE TABLE balance_history (
    wallet_id uuid           NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    hour      timestamptz    NOT NULL,
    token_id  text           NOT NULL REFERENCES tokens (id),
    amount    numeric(78, 0) NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (wallet_id, hour, token_id)
) PARTITION BY RANGE (hour);
CREATE TABLE balance_history_default PARTITION OF balance_history DEFAULT;

-- What wallets had in the markets of protocols in the hours of wallet_history; no row of an hour in which a wallet had
-- nothing and nothing is missing. It has an account and positions as position_markets and positions have them, and
-- their names.
CREATE TABLE position_history (
    wallet_id uuid        NOT NULL REFERENCES wallets (id) ON DELETE CASCADE,
    hour      timestamptz NOT NULL,
    markets   jsonb       NOT NULL,
    PRIMARY KEY (wallet_id, hour)
) PARTITION BY RANGE (hour);
CREATE TABLE position_history_default PARTITION OF position_history DEFAULT;

-- The last block of a chain at or before an hour, as it was last read; block 0 without a time when the chain began
-- later.
CREATE TABLE chain_hours (
    chain        bigint      NOT NULL,
    hour         timestamptz NOT NULL,
    block_number bigint      NOT NULL,
    block_hash   bytea       NOT NULL,
    block_time   timestamptz,
    PRIMARY KEY (chain, hour)
);

-- The last price at or before an hour, of a token or a currency. In a row without a price
-- the sources had none when they were asked.
CREATE TABLE price_history (
    token_id         text        NOT NULL,
    hour             timestamptz NOT NULL,
    price            numeric     CHECK (price > 0),
    source           text        NOT NULL,
    price_time       timestamptz,
    good_for_seconds bigint      NOT NULL DEFAULT 0, -- as in prices
    fetched_at       timestamptz NOT NULL, -- 1970 when imported prices may change it
    PRIMARY KEY (token_id, hour)
) PARTITION BY RANGE (hour);
CREATE TABLE price_history_default PARTITION OF price_history DEFAULT;

-- Makes the partition of a month of the history, with the rows that are in the default partition, and returns whether
-- it was missing. It runs as the owner of the tables, so that a role that only reads and writes rows may call it; it
-- takes no other table and no far month.
-- +goose StatementBegin
CREATE FUNCTION make_history_partition(parent text, month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    name text := parent || '_' || to_char(month, 'YYYYMM');
    low  timestamptz := month::timestamp AT TIME ZONE 'UTC';
    high timestamptz := (month + interval '1 month')::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF parent NOT IN ('wallet_history', 'balance_history', 'position_history', 'price_history')
       OR month <> date_trunc('month', month) OR month < '2015-01-01' OR month > now() + interval '3 years' THEN
        RAISE EXCEPTION 'no partition of % for %', parent, month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('purser: partitions of the history', 0));
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- The foreign keys of the new partition take them. Whoever writes history takes them first, too, so that no two
    -- wait for each other.
    IF parent <> 'price_history' THEN
        LOCK TABLE wallets, tokens IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', name,
        parent);
    -- Until the end of the transaction nobody adds a row of the month, and nobody begins a statement: one that knew
    -- the old partitions would not see the rows that were moved.
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE hour >= %L AND hour < %L RETURNING *)
        INSERT INTO %I SELECT * FROM moved', parent || '_default', low, high, name);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, low, high);
    RETURN true;
END $$;
-- +goose StatementEnd

-- Drops the partition of a past month of the history of balances, with its rows; nothing if there is none.
-- +goose StatementBegin
CREATE FUNCTION drop_history_partition(parent text, month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    IF parent NOT IN ('wallet_history', 'balance_history', 'position_history')
       OR month <> date_trunc('month', month) OR month > now() - interval '1 month' THEN
        RAISE EXCEPTION 'no partition of % for % may be dropped', parent, month
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', parent || '_' || to_char(month, 'YYYYMM'));
END $$;
-- +goose StatementEnd

-- The job make_partitions goes on from here.
SELECT make_history_partition(parent,
    (date_trunc('month', now(), 'UTC') AT TIME ZONE 'UTC' + months * interval '1 month')::date)
FROM unnest(ARRAY['wallet_history', 'balance_history', 'position_history', 'price_history']) AS parent,
     generate_series(-1, 3) AS months;

-- Cache: the outbox of invalidations (cache.Schema of pkg/cache).

CREATE TABLE cache_invalidations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      bytea       NOT NULL,
    noted_at timestamptz NOT NULL
);

-- A hash takes keys of any length.
CREATE INDEX cache_invalidations_key ON cache_invalidations USING hash (key);

-- Jobs: the schedule and the runs (jobs.Schema of pkg/jobs).

CREATE SEQUENCE job_runs_sequence;

-- Up to which instant a job's ticks are in the ledger. Whoever moves it writes
-- them, so that replicas never plan a tick twice.
CREATE TABLE job_schedules (
    job           text        PRIMARY KEY,
    planned_until timestamptz NOT NULL
);

CREATE TABLE job_runs (
    job             text        NOT NULL,
    scheduled_at    timestamptz NOT NULL,
    shard           integer     NOT NULL,
    shards          integer     NOT NULL,
    manual          boolean     NOT NULL DEFAULT false,
    state           text        NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'running', 'done', 'skipped')),
    missed          integer     NOT NULL DEFAULT 0, -- skipped ticks up to this one that have no row of their own
    sequence        bigint      NOT NULL DEFAULT 0,
    attempt         integer     NOT NULL DEFAULT 0,
    crashes         integer     NOT NULL DEFAULT 0, -- attempts whose lease ran out
    next_attempt_at timestamptz NOT NULL,
    claimed_by      text        NOT NULL DEFAULT '',
    lease_until     timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    duration        interval    GENERATED ALWAYS AS (finished_at - started_at) STORED,
    error           text        NOT NULL DEFAULT '', -- of the last attempt that failed
    PRIMARY KEY (job, scheduled_at, shard)
);

-- A retry of one tick never runs beside the next tick.
CREATE UNIQUE INDEX job_runs_one_running ON job_runs (job, shard) WHERE state = 'running';

CREATE INDEX job_runs_open ON job_runs (job, scheduled_at, shard) WHERE state IN ('due', 'running');

CREATE INDEX job_runs_history ON job_runs (scheduled_at, job, shard);

-- Erasure: what was deleted at auth (erasure.Schema of services/internal).

-- How far the deletions of auth were followed.
CREATE TABLE erasure_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cursor   bigint  NOT NULL
);
INSERT INTO erasure_cursor (cursor) VALUES (0);

-- Users who were deleted: nothing is stored for them any more.
CREATE TABLE erased_owners (
    owner_id  uuid        PRIMARY KEY,
    cursor    bigint      NOT NULL, -- of the deletion at auth
    noted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at timestamptz -- null while something of theirs may be left
);
CREATE INDEX erased_owners_pending ON erased_owners (cursor) WHERE erased_at IS NULL;

-- Changes: the feed that other services follow (feed.Schema of services/internal).

-- How far the feed has come. Cursors contain the id: another database's are refused.
CREATE TABLE change_feed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid    NOT NULL DEFAULT gen_random_uuid(),
    last     bigint  NOT NULL DEFAULT 0, -- the highest number that was given
    trimmed  bigint  NOT NULL DEFAULT 0  -- changes up to this number are not kept any more
);
INSERT INTO change_feed DEFAULT VALUES;

-- What changed of an owner, or of everybody under zeros, written in the transaction that changed it. A change gets
-- its number after its commit, under a lock: whoever sees a number sees all lower ones.
CREATE TABLE changes (
    owner_id   uuid        NOT NULL,
    id         bigint      GENERATED ALWAYS AS IDENTITY, -- given before the commit
    number     bigint,
    kind       text        NOT NULL,
    subject_id uuid        NOT NULL, -- what changed; zeros for all of the owner's
    version    bigint      NOT NULL DEFAULT 0, -- of the subject after the change, as its kind counts
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail     text        NOT NULL DEFAULT '', -- what else its kind says
    PRIMARY KEY (owner_id, id)
);
CREATE INDEX changes_number ON changes (number);
CREATE INDEX changes_of_owner ON changes (owner_id, number);
CREATE INDEX changes_without_number ON changes (id) WHERE number IS NULL;

-- +goose Down
DROP TABLE positions;
DROP TABLE position_markets;
DROP TABLE changes;
DROP TABLE change_feed;
DROP TABLE erased_owners;
DROP TABLE erasure_cursor;
DROP TABLE job_runs;
DROP TABLE job_schedules;
DROP SEQUENCE job_runs_sequence;
DROP TABLE cache_invalidations;
DROP FUNCTION drop_history_partition;
DROP FUNCTION make_history_partition;
DROP TABLE price_history;
DROP TABLE chain_hours;
DROP TABLE position_history;
DROP TABLE balance_history;
DROP TABLE wallet_history;
DROP TABLE imported_prices;
DROP TABLE prices;
DROP TABLE chain_heads;
DROP TABLE chain_resets;
DROP TABLE chain_blocks;
DROP TABLE transactions;
DROP TABLE wallet_tokens;
DROP TABLE scanned_blocks;
DROP TABLE transaction_scans;
DROP TABLE balance_changes;
DROP TABLE balances;
DROP TABLE tokens;
DROP TABLE ownership_challenges;
DROP TABLE requests;
DROP TABLE wallets;
