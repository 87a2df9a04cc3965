-- +goose Up
-- Mails to be sent, written in the transaction of what they tell. Whom to and
-- what is erased as soon as one was sent or given up: what is left is that
-- there was one.
CREATE TABLE mails (
    id         uuid        PRIMARY KEY,
    user_id    uuid        REFERENCES users (id) ON DELETE CASCADE, -- whose account it is about
    kind       text        NOT NULL,
    recipient  text        NOT NULL,
    subject    text        NOT NULL,
    body       text        NOT NULL,
    queued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When to try next. A replica that takes a mail puts it off for as long as
    -- nobody else is to touch it.
    due_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts   integer     NOT NULL DEFAULT 0,
    sent_at    timestamptz,
    dead_at    timestamptz, -- given up
    last_error text        NOT NULL DEFAULT '',
    CONSTRAINT mails_erased CHECK (sent_at IS NULL AND dead_at IS NULL OR recipient = '' AND subject = '' AND body = '')
);
CREATE INDEX mails_due ON mails (due_at) WHERE sent_at IS NULL AND dead_at IS NULL;
CREATE INDEX mails_user ON mails (user_id, kind, queued_at);
CREATE INDEX mails_queued ON mails (queued_at);

-- +goose Down
DROP TABLE mails;
