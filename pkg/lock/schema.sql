CREATE TABLE lock_fences (
    name       text        PRIMARY KEY,
    fence      bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
