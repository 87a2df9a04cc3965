-- +goose Up
ALTER TABLE signing_keys
    ADD COLUMN retiring_at    timestamptz,
    ADD COLUMN retired_at     timestamptz,
    ADD COLUMN compromised_at timestamptz,
    -- Promoted before every verifier could know it, after a compromise.
    ADD COLUMN waived         boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT signing_keys_retiring CHECK (state <> 'RETIRING' OR retiring_at IS NOT NULL),
    -- What has left the set can't sign again.
    ADD CONSTRAINT signing_keys_erased CHECK (state NOT IN ('RETIRED', 'COMPROMISED') OR sealed_private IS NULL);

-- +goose Down
ALTER TABLE signing_keys
    DROP CONSTRAINT signing_keys_erased, DROP CONSTRAINT signing_keys_retiring,
    DROP COLUMN waived, DROP COLUMN compromised_at, DROP COLUMN retired_at, DROP COLUMN retiring_at;
