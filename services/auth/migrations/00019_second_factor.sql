-- +goose Up
CREATE TABLE second_factors (
    user_id       uuid        PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- The TOTP secret, sealed as private keys are (signing_keys), bound to the
    -- user.
    sealed        bytea       NOT NULL,
    wrapped_key   bytea       NOT NULL,
    created_at    timestamptz NOT NULL,
    confirmed_at  timestamptz, -- it is asked for from then on
    last_step     bigint      NOT NULL, -- of the last code taken: none at or before it is again
    failures      integer     NOT NULL, -- in a row
    blocked_until timestamptz,
    recovery      jsonb       NOT NULL -- SHA-256 of the recovery codes that are left
);

-- +goose Down
DROP TABLE second_factors;
