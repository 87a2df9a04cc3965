-- +goose Up

-- Prices have a partition for each month, so that old ones are dropped at once. Snapshots have none: they are read by
-- portfolio, over years at a time. Their rows are all in the default partition, which becomes the table.
DROP VIEW snapshot_positions;
ALTER TABLE snapshots DETACH PARTITION snapshots_default;
DROP TABLE snapshots;
ALTER TABLE snapshots_default RENAME TO snapshots;
ALTER INDEX snapshots_default_pkey RENAME TO snapshots_pkey;
ALTER INDEX snapshots_default_portfolio_id_bucket_idx RENAME TO snapshots_with_flow;
ALTER INDEX snapshots_default_portfolio_id_bucket_idx1 RENAME TO snapshots_left_out;
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

-- +goose Down
DROP FUNCTION drop_history_partition;
DROP FUNCTION make_history_partition;
-- +goose StatementBegin
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits
                WHERE inhparent = 'hour_prices'::regclass AND inhrelid <> 'hour_prices_default'::regclass LOOP
        EXECUTE format('ALTER TABLE hour_prices DETACH PARTITION %s', part);
        EXECUTE format('INSERT INTO hour_prices (bucket, asset, seq, price_time, stale, price, source, reason)
            SELECT bucket, asset, seq, price_time, stale, price, source, reason FROM %s', part);
        EXECUTE format('DROP TABLE %s', part);
    END LOOP;
END $$;
-- +goose StatementEnd
DROP VIEW snapshot_positions;
ALTER TABLE snapshots RENAME TO snapshots_default;
ALTER INDEX snapshots_pkey RENAME TO snapshots_default_pkey;
ALTER INDEX snapshots_with_flow RENAME TO snapshots_default_portfolio_id_bucket_idx;
ALTER INDEX snapshots_left_out RENAME TO snapshots_default_portfolio_id_bucket_idx1;
CREATE TABLE snapshots (LIKE snapshots_default INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    PRIMARY KEY (portfolio_id, bucket),
    FOREIGN KEY (portfolio_id) REFERENCES portfolios (id) ON DELETE CASCADE) PARTITION BY RANGE (bucket);
CREATE INDEX snapshots_with_flow ON snapshots (portfolio_id, bucket) WHERE net_flow <> 0;
CREATE INDEX snapshots_left_out ON snapshots (portfolio_id, bucket) WHERE NOT measurable;
ALTER TABLE snapshots ATTACH PARTITION snapshots_default DEFAULT;
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
