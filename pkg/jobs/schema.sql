CREATE SEQUENCE job_runs_sequence;

CREATE TABLE job_runs (
    job             text        NOT NULL,
    scheduled_at    timestamptz NOT NULL,
    shard           integer     NOT NULL,
    shards          integer     NOT NULL,
    manual          boolean     NOT NULL DEFAULT false,
    state           text        NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'running', 'done', 'skipped')),
    sequence        bigint      NOT NULL DEFAULT 0,
    attempt         integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    claimed_by      text        NOT NULL DEFAULT '',
    lease_until     timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    error           text        NOT NULL DEFAULT '',
    PRIMARY KEY (job, scheduled_at, shard)
);

-- A retry of one tick never runs beside the next tick.
CREATE UNIQUE INDEX job_runs_one_running ON job_runs (job, shard) WHERE state = 'running';

CREATE INDEX job_runs_open ON job_runs (job, scheduled_at) WHERE state IN ('due', 'running');
