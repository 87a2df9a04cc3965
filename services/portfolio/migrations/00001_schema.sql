-- +goose Up

-- Portfolios: named sets of wallets. Each user has one default portfolio, which
-- holds all of theirs.
CREATE TABLE portfolios (
    id         uuid PRIMARY KEY,
    owner_id   uuid        NOT NULL, -- the user's id at auth
    name       text        NOT NULL,
    is_default boolean     NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE UNIQUE INDEX portfolios_one_default ON portfolios (owner_id) WHERE is_default;

-- Snapshots: the value of a portfolio in one hour (UTC), at most one an hour.
CREATE TABLE snapshots (
    portfolio_id            uuid        NOT NULL REFERENCES portfolios (id) ON DELETE CASCADE,
    bucket                  timestamptz NOT NULL, -- the start of its hour
    snapshot_time           timestamptz NOT NULL, -- what it is the value at: bucket itself when backfilled
    currency                text        NOT NULL,
    total                   numeric     NOT NULL CHECK (total >= 0), -- without a scale: every digit is kept
    complete                boolean     NOT NULL, -- no balance or price was missing or stale
    position_count          integer     NOT NULL,
    -- What an incomplete snapshot lacks: they decide which of two incomplete ones
    -- is stored (upsertSnapshots in internal/store).
    incomplete_wallet_count integer     NOT NULL, -- wallets whose balances are missing or may be out of date
    unpriced_count          integer     NOT NULL, -- verified positions without a price
    stale_price_count       integer     NOT NULL, -- counted positions with a stale price
    backfilled              boolean     NOT NULL, -- taken after its hour, from the balances and prices of then
    -- It counts in performance: every wallet was read, and the price source answered.
    measurable              boolean     NOT NULL DEFAULT false,
    -- What came in since the measurable snapshot before, less what went out
    -- (updateNetFlows in internal/store); NULL if there is none, or if not measurable.
    net_flow                numeric,
    PRIMARY KEY (portfolio_id, bucket),
    CONSTRAINT snapshots_on_the_hour CHECK (date_trunc('hour', bucket, 'UTC') = bucket)
) PARTITION BY RANGE (bucket);

CREATE TABLE snapshots_default PARTITION OF snapshots DEFAULT;

-- The next measurable snapshot, the ones with a flow, and the ones that are left out
-- are found without reading the others.
CREATE INDEX snapshots_measurable ON snapshots (portfolio_id, bucket) WHERE measurable;
CREATE INDEX snapshots_with_flow ON snapshots (portfolio_id, bucket) WHERE net_flow <> 0;
CREATE INDEX snapshots_left_out ON snapshots (portfolio_id, bucket) WHERE NOT measurable;

-- Positions of a snapshot: how much of one token all wallets held together.
CREATE TABLE snapshot_positions (
    portfolio_id    uuid        NOT NULL REFERENCES portfolios (id) ON DELETE CASCADE,
    bucket          timestamptz NOT NULL, -- of the snapshot
    token_id        text        NOT NULL, -- CAIP-19
    symbol          text        NOT NULL,
    decimals        smallint    NOT NULL, -- 0 to 255
    verified        boolean     NOT NULL,
    amount          numeric     NOT NULL CHECK (amount >= 0), -- base units; a sum over wallets can pass 2^256-1
    price           numeric,              -- of a whole token; NULL when unknown
    price_source    text        NOT NULL,
    price_time      timestamptz,          -- NULL with price
    price_stale     boolean     NOT NULL,
    value           numeric,              -- amount / 10^decimals * price; NULL with an unpriced_reason
    unpriced_reason text        NOT NULL, -- '' or, for example, NO_PRICE
    PRIMARY KEY (portfolio_id, bucket, token_id)
) PARTITION BY RANGE (bucket);

CREATE TABLE snapshot_positions_default PARTITION OF snapshot_positions DEFAULT;

-- Cache invalidations: the outbox of pkg/cache (cache.Schema). A change of what
-- is cached writes the keys to invalidate in its own transaction.
CREATE TABLE cache_invalidations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      bytea       NOT NULL,
    noted_at timestamptz NOT NULL
);

-- A hash takes keys of any length.
CREATE INDEX cache_invalidations_key ON cache_invalidations USING hash (key);

-- Jobs: the schedule and the runs of pkg/jobs (jobs.Schema).
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

CREATE INDEX job_runs_open ON job_runs (job, scheduled_at) WHERE state IN ('due', 'running');

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

-- +goose Down
DROP TABLE erased_owners;
DROP TABLE erasure_cursor;
DROP TABLE job_runs;
DROP TABLE job_schedules;
DROP SEQUENCE job_runs_sequence;
DROP TABLE cache_invalidations;
DROP TABLE snapshot_positions;
DROP TABLE snapshots;
DROP TABLE portfolios;
