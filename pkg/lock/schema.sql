CREATE TABLE lock_fences (
    name       text        PRIMARY KEY,
    fence      bigint      NOT NULL,
    holder     text        NOT NULL DEFAULT '', -- of two with the same fence, the one that wrote first
    updated_at timestamptz NOT NULL DEFAULT now()
);
