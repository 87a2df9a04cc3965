-- +goose Up
-- How many wallets' balances and how many prices an incomplete snapshot was
-- taken without, or with old ones; with unpriced_count they tell which of two is
-- the better one. 0 where it isn't known, so that such a one is replaced rather
-- too seldom.
ALTER TABLE snapshots
    ADD COLUMN unsound_count integer NOT NULL DEFAULT 0,
    ADD COLUMN stale_count   integer NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE snapshots
    DROP COLUMN unsound_count,
    DROP COLUMN stale_count;
