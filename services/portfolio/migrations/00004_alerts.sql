-- +goose Up

-- Alerts: rules of owners, what they have fired, and its way to webhooks. Owners first in every key.

-- Owners with rules, and when these are to be looked at. Whoever looks moves due_at on first, for as long as that may
-- take; a change that comes meanwhile moves it back.
CREATE TABLE alert_owners (
    owner_id uuid        PRIMARY KEY,
    due_at   timestamptz NOT NULL
);
CREATE INDEX alert_owners_due ON alert_owners (due_at);

CREATE TABLE alert_rules (
    owner_id       uuid        NOT NULL,
    id             uuid        NOT NULL,
    portfolio_id   uuid        NOT NULL, -- the rules of a portfolio that is gone are deleted at the next look
    name           text        NOT NULL,
    kind           text        NOT NULL, -- alert.Kind
    limit_value    numeric,              -- NULL of kinds that have only a window
    token_id       text        NOT NULL, -- CAIP-19; '' of kinds that have none
    window_seconds bigint      NOT NULL, -- 0 of kinds that have none
    hysteresis     numeric     NOT NULL CHECK (hysteresis >= 0 AND hysteresis <= 0.5),
    disabled       boolean     NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    version        bigint      NOT NULL, -- of what the owner sets: the etag
    -- The state. It is changed, and an alert stored, only by whoever knows state_version.
    fired          boolean     NOT NULL DEFAULT false,
    figure         text        NOT NULL DEFAULT '', -- at the last change of the state
    fired_at       timestamptz,
    base           text        NOT NULL DEFAULT '', -- what a kind compares with besides, as JSON
    state_version  bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (owner_id, id)
);

CREATE TABLE alerts (
    owner_id        uuid        NOT NULL,
    id              uuid        NOT NULL, -- UUIDv7
    rule_id         uuid        NOT NULL, -- the rule may be gone
    rule_name       text        NOT NULL,
    portfolio_id    uuid        NOT NULL,
    kind            text        NOT NULL,
    token_id        text        NOT NULL,
    limit_value     numeric,
    window_seconds  bigint      NOT NULL,
    figure          text        NOT NULL,
    fired_at        timestamptz NOT NULL,
    acknowledged_at timestamptz,
    PRIMARY KEY (owner_id, id)
);
CREATE INDEX alerts_unacknowledged ON alerts (owner_id, id) WHERE acknowledged_at IS NULL;
CREATE INDEX alerts_old ON alerts (fired_at);

CREATE TABLE webhook_endpoints (
    owner_id         uuid        NOT NULL,
    id               uuid        NOT NULL,
    url              text        NOT NULL,
    -- The secret, and the one before, encrypted (package seal).
    sealed           bytea       NOT NULL,
    wrapped          bytea       NOT NULL,
    previous_sealed  bytea,
    previous_wrapped bytea,
    previous_until   timestamptz,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (owner_id, id)
);

-- The outbox of webhooks, written with the alert.
CREATE TABLE webhook_deliveries (
    owner_id     uuid        NOT NULL,
    alert_id     uuid        NOT NULL,
    endpoint_id  uuid        NOT NULL,
    created_at   timestamptz NOT NULL,
    due_at       timestamptz NOT NULL, -- when to try; while one tries, when another may
    attempts     integer     NOT NULL DEFAULT 0,
    last_error   text        NOT NULL DEFAULT '',
    delivered_at timestamptz,
    dead_at      timestamptz,
    PRIMARY KEY (owner_id, alert_id, endpoint_id),
    FOREIGN KEY (owner_id, alert_id) REFERENCES alerts (owner_id, id) ON DELETE CASCADE,
    FOREIGN KEY (owner_id, endpoint_id) REFERENCES webhook_endpoints (owner_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_of_endpoint ON webhook_deliveries (owner_id, endpoint_id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (due_at) WHERE delivered_at IS NULL AND dead_at IS NULL;

-- How far the feed has come. Cursors contain the id: another database's are refused.
CREATE TABLE change_feed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid    NOT NULL DEFAULT gen_random_uuid(),
    last     bigint  NOT NULL DEFAULT 0, -- the highest number that was given
    trimmed  bigint  NOT NULL DEFAULT 0  -- changes up to this number are not kept any more
);
INSERT INTO change_feed DEFAULT VALUES;

-- What changed of an owner, or of everybody under zeros, written in the transaction that changed it. A change gets
-- its number after its commit, under a lock: whoever sees a number sees all lower ones.
CREATE TABLE changes (
    owner_id   uuid        NOT NULL,
    id         bigint      GENERATED ALWAYS AS IDENTITY, -- given before the commit
    number     bigint,
    kind       text        NOT NULL,
    subject_id uuid        NOT NULL, -- what changed; zeros for all of the owner's
    version    bigint      NOT NULL DEFAULT 0, -- of the subject after the change, as its kind counts
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail     text        NOT NULL DEFAULT '', -- what else its kind says
    PRIMARY KEY (owner_id, id)
);
CREATE INDEX changes_number ON changes (number);
CREATE INDEX changes_of_owner ON changes (owner_id, number);
CREATE INDEX changes_without_number ON changes (id) WHERE number IS NULL;

-- +goose Down
DROP TABLE changes;
DROP TABLE change_feed;
DROP TABLE webhook_deliveries;
DROP TABLE webhook_endpoints;
DROP TABLE alerts;
DROP TABLE alert_rules;
DROP TABLE alert_owners;
