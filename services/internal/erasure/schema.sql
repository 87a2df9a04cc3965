-- How far the deletions of auth were followed.
CREATE TABLE erasure_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cursor   bigint  NOT NULL
);
INSERT INTO erasure_cursor (cursor) VALUES (0);

-- Users who were deleted: nothing is stored for them any more.
CREATE TABLE erased_owners (
    owner_id  uuid        PRIMARY KEY,
    cursor    bigint      NOT NULL, -- of the deletion at auth
    noted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at timestamptz -- null while something of theirs may be left
);
CREATE INDEX erased_owners_pending ON erased_owners (cursor) WHERE erased_at IS NULL;
