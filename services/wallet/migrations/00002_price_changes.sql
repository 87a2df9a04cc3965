-- +goose Up

-- Changes of prices are everybody's: they have zeros as their owner, and say what changed in detail.
ALTER TABLE changes ADD COLUMN detail text NOT NULL DEFAULT ''; -- what else its kind says

-- +goose Down
DELETE FROM changes WHERE detail <> '';
ALTER TABLE changes DROP COLUMN detail;
