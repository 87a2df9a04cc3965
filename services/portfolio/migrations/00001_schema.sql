-- +goose Up

-- Portfolios: named sets of wallets. Each user has one default portfolio, which
-- holds all of theirs.
CREATE TABLE portfolios (
    id         uuid PRIMARY KEY,
    owner_id   uuid        NOT NULL, -- the user's id at auth
    name       text        NOT NULL,
    is_default boolean     NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    version    bigint      NOT NULL DEFAULT 1, -- of name and memberships: the etag
    -- The last number that a membership of this portfolio got.
    last_membership integer NOT NULL DEFAULT 0,
    -- From which hour on snapshots may be out of date, and when to look for them; NULL
    -- when there are none.
    recompute_from timestamptz,
    recompute_at   timestamptz,
    -- From which hour on snapshots are to be looked for that have older prices than their
    -- hours; NULL when there are none.
    reprice_from   timestamptz
);

CREATE INDEX portfolios_to_recompute ON portfolios (recompute_at) WHERE recompute_from IS NOT NULL;
CREATE INDEX portfolios_to_reprice ON portfolios (id) WHERE reprice_from IS NOT NULL;
CREATE UNIQUE INDEX portfolios_one_default ON portfolios (owner_id) WHERE is_default;

-- Snapshots: the value of a portfolio in one hour (UTC), at most one an hour. A row is
-- narrow, since there is one for each portfolio and hour, for ever.
CREATE TABLE snapshots (
    portfolio_id            uuid        NOT NULL REFERENCES portfolios (id) ON DELETE CASCADE,
    bucket                  timestamptz NOT NULL, -- the start of its hour
    snapshot_time           timestamptz NOT NULL, -- what it is the value at: bucket itself when backfilled
    price_seq               bigint      NOT NULL, -- its prices are the last ones of its hour up to this number
    position_count          integer     NOT NULL,
    -- The membership whose wallets were valued. A snapshot whose membership is not the one
    -- that is valid in its hour is out of date.
    membership              integer     NOT NULL DEFAULT 0,
    -- What an incomplete snapshot lacks: they decide which of two incomplete ones
    -- is stored (upsertSnapshots in internal/store).
    incomplete_wallet_count integer     NOT NULL, -- wallets whose balances are missing or may be out of date
    unpriced_count          integer     NOT NULL, -- verified positions without a price
    stale_price_count       integer     NOT NULL, -- counted positions with a stale price
    complete                boolean     NOT NULL, -- no balance or price was missing or stale
    backfilled              boolean     NOT NULL, -- taken after its hour, from the balances and prices of then
    -- It counts in performance: every wallet was read, the price source answered, and there is no price gap.
    measurable              boolean     NOT NULL,
    -- A verified position has no price, and its token had one before and after (price_gaps.go in internal/store).
    price_gap               boolean     NOT NULL DEFAULT false,
    total                   numeric     NOT NULL CHECK (total >= 0), -- in USD; without a scale: every digit is kept
    -- What came in since the measurable snapshot before, less what went out
    -- (net_flows.go in internal/store); NULL if there is none, or if not measurable.
    net_flow                numeric,
    -- What was held, by a digest (heldDigest in internal/store); NULL when it replaced another
    -- snapshot of its hour. A snapshot that holds what the last one did has no changes.
    held_digest             uuid,
    PRIMARY KEY (portfolio_id, bucket),
    CONSTRAINT snapshots_on_the_hour CHECK (date_trunc('hour', bucket, 'UTC') = bucket)
);

-- The ones with a flow, and the ones that are left out, are found without reading the
-- others.
CREATE INDEX snapshots_with_flow ON snapshots (portfolio_id, bucket) WHERE net_flow <> 0;
CREATE INDEX snapshots_left_out ON snapshots (portfolio_id, bucket) WHERE NOT measurable;

-- Assets: tokens as positions know them, under a short number. A row never changes: a
-- token whose name, decimals or verification changes gets another one.
CREATE TABLE assets (
    id       integer  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_id text     NOT NULL, -- CAIP-19
    symbol   text     NOT NULL,
    decimals smallint NOT NULL, -- 0 to 255
    verified boolean  NOT NULL,
    UNIQUE (token_id, symbol, decimals, verified)
);

-- Positions, by change: from a snapshot on, all wallets of a portfolio together hold this
-- much of an asset, until the next row. A position that ends has a row without an amount.
CREATE TABLE position_changes (
    portfolio_id uuid        NOT NULL REFERENCES portfolios (id) ON DELETE CASCADE,
    asset        integer     NOT NULL REFERENCES assets (id),
    bucket       timestamptz NOT NULL, -- of a snapshot of the portfolio
    amount       numeric     CHECK (amount >= 0), -- base units; a sum over wallets can pass 2^256-1
    PRIMARY KEY (portfolio_id, asset, bucket)
);

-- Prices of the hours, of all portfolios together. They have a partition for each month,
-- so that old ones are dropped at once; snapshots have none, for they are read by
-- portfolio, over years at a time. A price is never changed: a better one
-- is added with a higher number, and a snapshot's total stays what its own prices make. A
-- token without a row has no price (NO_PRICE).
CREATE TABLE hour_prices (
    bucket     timestamptz NOT NULL,
    asset      integer     NOT NULL REFERENCES assets (id),
    seq        bigint      NOT NULL, -- numbers rise in the order of commits
    price_time timestamptz,          -- NULL with price
    stale      boolean     NOT NULL,
    price      numeric,              -- of a whole token, in USD; NULL when unknown
    source     text        NOT NULL,
    reason     text        NOT NULL, -- why it is unknown, for example NO_PRICE; '' for a price
    -- A snapshot of the hour that has the asset, and only prices up to a lower number, is
    -- to be valued at this price.
    mended     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (bucket, asset, seq)
) PARTITION BY RANGE (bucket);

CREATE TABLE hour_prices_default PARTITION OF hour_prices DEFAULT;

CREATE INDEX hour_prices_mended ON hour_prices (asset, bucket) WHERE mended;

-- The last number of hour_prices. Whoever adds prices holds a lock on the row.
CREATE TABLE hour_price_sequence (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last     bigint  NOT NULL
);
INSERT INTO hour_price_sequence (last) VALUES (0);

-- Positions of each snapshot with their prices and values, put together again, for people
-- and for reads of one snapshot. The assets that a portfolio ever held are found by one
-- step in the index each. Values are rounded half to even, and left out where the service
-- leaves them out (package valuation).
CREATE VIEW snapshot_positions AS
SELECT s.portfolio_id, s.bucket, a.token_id, a.symbol, a.decimals, a.verified, held.amount,
       p.price, coalesce(p.source, '') AS price_source, p.price_time, coalesce(p.stale, false) AS price_stale,
       CASE WHEN product.exact >= 1e30 THEN NULL
            WHEN product.rounded - product.exact = 0.000000005 AND product.rounded * 100000000 % 2 = 1
            THEN product.rounded - 0.00000001
            ELSE product.rounded END AS value,
       CASE WHEN p.price IS NULL THEN coalesce(p.reason, 'NO_PRICE') ELSE '' END AS unpriced_reason
FROM snapshots s
CROSS JOIN LATERAL (
    WITH RECURSIVE known (asset) AS (
        SELECT min(c.asset) FROM position_changes c WHERE c.portfolio_id = s.portfolio_id
        UNION ALL
        SELECT (SELECT min(c.asset) FROM position_changes c
                WHERE c.portfolio_id = s.portfolio_id AND c.asset > known.asset)
        FROM known WHERE known.asset IS NOT NULL
    )
    SELECT known.asset, last.amount
    FROM known CROSS JOIN LATERAL (
        SELECT c.amount FROM position_changes c
        WHERE c.portfolio_id = s.portfolio_id AND c.asset = known.asset AND c.bucket <= s.bucket
        ORDER BY c.bucket DESC LIMIT 1) AS last
    WHERE known.asset IS NOT NULL AND last.amount IS NOT NULL) AS held
JOIN assets a ON a.id = held.asset
LEFT JOIN LATERAL (
    SELECT * FROM hour_prices p
    WHERE p.bucket = s.bucket AND p.asset = held.asset AND p.seq <= s.price_seq
    ORDER BY p.seq DESC LIMIT 1) AS p ON true
CROSS JOIN LATERAL (
    SELECT held.amount * p.price * ('1e-' || a.decimals)::numeric AS exact) AS worth
CROSS JOIN LATERAL (SELECT worth.exact, round(worth.exact, 8) AS rounded) AS product;

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
    IF parent <> 'hour_prices' OR month <> date_trunc('month', month)
       OR month < '2015-01-01' OR month > now() + interval '3 years' THEN
        RAISE EXCEPTION 'no partition of % for %', parent, month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('purser: partitions of the history', 0));
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- The foreign key takes it. Whoever stores prices takes assets first too, so that no two wait for each other.
    LOCK TABLE assets IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', name,
        parent);
    -- Until the end of the transaction nobody adds a row of the month, and nobody begins a statement: one that knew
    -- the old partitions would not see the rows that were moved.
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE bucket >= %L AND bucket < %L RETURNING *)
        INSERT INTO %I SELECT * FROM moved', parent || '_default', low, high, name);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, low, high);
    RETURN true;
END $$;
-- +goose StatementEnd

-- Drops the prices of a past month; nothing if there are none. No price is dropped that a snapshot of that month or of
-- one before has: whoever stores a snapshot reads prices first, so that it waits here, or this waits for it.
-- +goose StatementBegin
CREATE FUNCTION drop_history_partition(parent text, month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    high timestamptz := (month + interval '1 month')::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF parent <> 'hour_prices' OR month <> date_trunc('month', month) OR month > now() - interval '1 month' THEN
        RAISE EXCEPTION 'no partition of % for % may be dropped', parent, month
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    IF EXISTS (SELECT FROM portfolios p CROSS JOIN LATERAL (
                   SELECT FROM snapshots s WHERE s.portfolio_id = p.id AND s.bucket < high LIMIT 1) AS one) THEN
        RAISE EXCEPTION 'snapshots have the prices of %', month USING ERRCODE = 'object_in_use';
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', parent || '_' || to_char(month, 'YYYYMM'));
END $$;
-- +goose StatementEnd

-- The job make_partitions goes on from here.
SELECT make_history_partition('hour_prices',
    (date_trunc('month', now(), 'UTC') AT TIME ZONE 'UTC' + months * interval '1 month')::date)
FROM generate_series(-1, 3) AS months;

-- Prices that wallet changed after snapshots had them: the job recompute_snapshots adopts them.

-- How far wallet's feed of changes was followed; '' before the first time.
CREATE TABLE price_change_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cursor   text    NOT NULL
);
INSERT INTO price_change_cursor (cursor) VALUES ('');

-- Hours of tokens whose prices are to be compared with those of wallet. A row is gone once they were.
CREATE TABLE price_changes (
    token_id   text        NOT NULL,
    first_hour timestamptz NOT NULL,
    until_hour timestamptz NOT NULL, -- the one after the last
    due_at     timestamptz NOT NULL, -- when to look; another one after each change that is noted
    PRIMARY KEY (token_id, first_hour)
);

-- Rates of the hours, of all portfolios together: the last price of a currency, or of a
-- token that serves as one, at or before the start of an hour. A rate is never changed.
CREATE TABLE currency_rates (
    currency  text        NOT NULL, -- ISO 4217 or CAIP-19
    bucket    timestamptz NOT NULL,
    rate      numeric     CHECK (rate > 0), -- of one unit, in USD; NULL when unknown
    source    text        NOT NULL,
    rate_time timestamptz,
    stale     boolean     NOT NULL,
    reason    text        NOT NULL, -- why it is unknown; '' for a rate
    read_at   timestamptz NOT NULL,
    PRIMARY KEY (currency, bucket)
);

-- A value of US dollars in another currency, rounded half to even to 8 decimals, exactly
-- (package currency).
CREATE FUNCTION in_currency(value numeric, rate numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sign(value) * 0.00000001 * (
    div(2e8 * abs(value) + rate, 2 * rate) -
    (mod(2e8 * abs(value) + rate, 2 * rate) = 0 AND
     mod(div(2e8 * abs(value) + rate, 2 * rate), 2) = 1)::integer);

-- Memberships: from an hour on, until the next row, a portfolio holds exactly these
-- wallets. A number is never used again: a row whose wallets change gets another one, and
-- the snapshots with the old one are out of date. Each portfolio has a first row, from
-- 1970 on. The default portfolio has no other: it has all wallets of its owner at all
-- times, and that row tells by a digest which these were last.
CREATE TABLE memberships (
    portfolio_id   uuid        NOT NULL REFERENCES portfolios (id) ON DELETE CASCADE,
    valid_from     timestamptz NOT NULL,
    number         integer     NOT NULL,
    wallet_ids     uuid[]      NOT NULL, -- in order; empty for the default portfolio
    wallets_digest text        NOT NULL, -- of the default portfolio: SHA-256 of its wallets' ids; '' when not known
    no_wallets     boolean     NOT NULL,
    PRIMARY KEY (portfolio_id, valid_from),
    CONSTRAINT memberships_on_the_hour CHECK (date_trunc('hour', valid_from, 'UTC') = valid_from)
);

-- The response to each request_id, for repeated calls (requests of services/internal).
CREATE TABLE requests (
    owner_id     uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    method       text        NOT NULL,
    request_hash bytea       NOT NULL, -- SHA-256 of the request's fields
    response     bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (owner_id, request_id)
);

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
DROP TABLE requests;
DROP TABLE memberships;
DROP FUNCTION in_currency;
DROP TABLE currency_rates;
DROP TABLE price_changes;
DROP TABLE price_change_cursor;
DROP FUNCTION drop_history_partition;
DROP FUNCTION make_history_partition;
DROP VIEW snapshot_positions;
DROP TABLE hour_price_sequence;
DROP TABLE hour_prices;
DROP TABLE position_changes;
DROP TABLE assets;
DROP TABLE snapshots;
DROP TABLE portfolios;
