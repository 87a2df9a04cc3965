-- +goose Up

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

-- A snapshot of the hour that has the asset, and only prices up to a lower number, is to be valued at this price.
ALTER TABLE hour_prices ADD COLUMN mended boolean NOT NULL DEFAULT false;
CREATE INDEX hour_prices_mended ON hour_prices (asset, bucket) WHERE mended;

-- From which hour on such snapshots are to be looked for; NULL when there are none.
ALTER TABLE portfolios ADD COLUMN reprice_from timestamptz;
CREATE INDEX portfolios_to_reprice ON portfolios (id) WHERE reprice_from IS NOT NULL;

-- +goose Down
DROP INDEX portfolios_to_reprice;
ALTER TABLE portfolios DROP COLUMN reprice_from;
DROP INDEX hour_prices_mended;
ALTER TABLE hour_prices DROP COLUMN mended;
DROP TABLE price_changes;
DROP TABLE price_change_cursor;
