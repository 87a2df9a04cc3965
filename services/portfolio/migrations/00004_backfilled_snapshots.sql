-- +goose Up
-- Taken afterwards, as of the bucket, from the balances and prices of then.
ALTER TABLE snapshots ADD COLUMN backfilled boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE snapshots DROP COLUMN backfilled;
