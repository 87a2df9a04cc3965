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
