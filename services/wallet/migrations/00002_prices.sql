-- +goose Up
-- The newest price of each token, per whole token.
CREATE TABLE prices (
    token_id   text PRIMARY KEY REFERENCES tokens (id) ON DELETE CASCADE,
    price      numeric     NOT NULL CHECK (price > 0),
    source     text        NOT NULL,
    price_time timestamptz NOT NULL,
    fetched_at timestamptz NOT NULL
);

-- +goose Down
DROP TABLE prices;
