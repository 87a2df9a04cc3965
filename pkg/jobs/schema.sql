CREATE SEQUENCE job_runs_sequence;

-- Up to which instant a job's ticks are in the ledger. Whoever moves it writes
-- them, so that replicas never plan a tick twice.
CREATE TABLE job_schedules (
    job           text        PRIMARY KEY,
    planned_until timestamptz NOT NULL
);

CREATE TABLE job_runs (
    job             text        NOT NULL,
    scheduled_at    timestamptz NOT NULL,
    shard           integer     NOT NULL,
    shards          integer     NOT NULL,
    manual          boolean     NOT NULL DEFAULT false,
    state           text        NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'running', 'done', 'skipped')),
    missed          integer     NOT NULL DEFAULT 0, -- skipped ticks up to this one that have no row of their own
    sequence        bigint      NOT NULL DEFAULT 0,
    attempt         integer     NOT NULL DEFAULT 0,
    crashes         integer     NOT NULL DEFAULT 0, -- attempts whose lease ran out
    next_attempt_at timestamptz NOT NULL,
    claimed_by      text        NOT NULL DEFAULT '',
    lease_until     timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    duration        interval    GENERATED ALWAYS AS (finished_at - started_at) STORED,
    error           text        NOT NULL DEFAULT '', -- of the last attempt that failed
    PRIMARY KEY (job, scheduled_at, shard)
);

-- A retry of one tick never runs beside the next tick.
CREATE UNIQUE INDEX job_runs_one_running ON job_runs (job, shard) WHERE state = 'running';

CREATE INDEX job_runs_open ON job_runs (job, scheduled_at, shard) WHERE state IN ('due', 'running');

CREATE INDEX job_runs_history ON job_runs (scheduled_at, job, shard);
