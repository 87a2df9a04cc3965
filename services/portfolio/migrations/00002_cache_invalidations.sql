-- +goose Up
-- What caches are to be told of a change, written with the change: the outbox
-- of pkg/cache (cache.Schema).
CREATE TABLE cache_invalidations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      bytea       NOT NULL,
    noted_at timestamptz NOT NULL
);

-- A hash takes keys of any length.
CREATE INDEX cache_invalidations_key ON cache_invalidations USING hash (key);

-- +goose Down
DROP TABLE cache_invalidations;
