CREATE TABLE cache_invalidations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      bytea       NOT NULL,
    noted_at timestamptz NOT NULL
);

-- A hash takes keys of any length.
CREATE INDEX cache_invalidations_key ON cache_invalidations USING hash (key);
