-- +goose Up
-- The order in which the wallets of a chain are synced: those that never were
-- first, then by their last sync or the time at which a failed one may be tried
-- again.
CREATE INDEX wallets_turn ON wallets (
    split_part(account, ':', 2),
    coalesce(CASE sync_state WHEN 'PENDING' THEN NULL WHEN 'SYNCED' THEN synced_at ELSE retry_at END, '0001-01-01 00:00:00+00'::timestamptz),
    id
);

-- +goose Down
DROP INDEX wallets_turn;
