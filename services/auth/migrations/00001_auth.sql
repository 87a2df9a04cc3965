-- The schema of the auth service's database.
--
-- A later migration adds to this in a file of its own, and so that the release before it still runs on the result:
-- replicas of both run side by side during a rollout.

-- +goose Up

-- Accounts. A user who signs in with a wallet has no address, one of an identity provider no password.
CREATE TABLE users (
    id                 uuid        PRIMARY KEY,
    email              text        CONSTRAINT users_email_key UNIQUE,
    email_verified_at  timestamptz, -- when somebody proved to own the address
    password_hash      text,
    created_at         timestamptz NOT NULL,
    disabled_at        timestamptz,
    delete_at          timestamptz, -- when it is deleted, as its owner asked for: it is disabled until then
    invited_at         timestamptz, -- by an administrator; null once somebody proved to own the address
    attributes         jsonb       NOT NULL DEFAULT '{}', -- set by administrators and put into tokens
    -- The profile, which users edit themselves.
    display_name       text        NOT NULL DEFAULT '',
    first_name         text        NOT NULL DEFAULT '',
    last_name          text        NOT NULL DEFAULT '',
    bio                text        NOT NULL DEFAULT '',
    picture_url        text        NOT NULL DEFAULT '',
    -- How often all its sessions were ended. A sign-in that was proven before an end begins no session after it.
    ends               bigint      NOT NULL DEFAULT 0,
    CONSTRAINT users_email_is_lower_case CHECK (email = lower(email))
);
CREATE INDEX users_email_prefix ON users (email text_pattern_ops);
CREATE INDEX users_delete_at ON users (delete_at) WHERE delete_at IS NOT NULL;

CREATE TABLE user_roles (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role    text NOT NULL,
    PRIMARY KEY (user_id, role)
);
CREATE INDEX user_roles_role ON user_roles (role, user_id);

-- The codes that were mailed, by SHA-256. Those of a user and purpose are valid side by side until one is used, so
-- that nobody ends the owner's by requesting another.
CREATE TABLE mailed_codes (
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    text        NOT NULL,
    hash       bytea       PRIMARY KEY,
    expires_at timestamptz NOT NULL,
    new_email  text, -- the address that it was mailed to, where it is to become the account's
    CONSTRAINT mailed_codes_purpose_is_known CHECK (purpose IN ('VERIFY_EMAIL', 'RESET_PASSWORD', 'CHANGE_EMAIL',
        'CANCEL_DELETION', 'INVITATION', 'KEEP_SECOND_FACTOR')),
    CONSTRAINT mailed_codes_change_has_address CHECK ((purpose = 'CHANGE_EMAIL') = (new_email IS NOT NULL))
);
CREATE INDEX mailed_codes_user ON mailed_codes (user_id, purpose);

-- External identities of users: accounts at identity providers, and wallets.
CREATE TABLE identities (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider     text        NOT NULL,
    subject      text        NOT NULL, -- the provider's id of the user, which never changes
    label        text        NOT NULL, -- by which the user recognizes it
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    CONSTRAINT identities_provider_subject UNIQUE (provider, subject)
);
CREATE INDEX identities_user ON identities (user_id, id);

-- TOTP secrets, encrypted as the private keys of signing_keys are, with the user's id as additional data.
CREATE TABLE second_factors (
    user_id         uuid        PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed_secret   bytea       NOT NULL,
    wrapped_key     bytea       NOT NULL,
    created_at      timestamptz NOT NULL,
    confirmed_at    timestamptz, -- required at sign-in from then on
    last_step       bigint      NOT NULL, -- of the last accepted code: earlier ones are refused
    failures        integer     NOT NULL, -- in a row
    blocked_until   timestamptz,
    recovery_hashes jsonb       NOT NULL -- SHA-256 of the unused recovery codes
);

-- Sessions: one row per family of refresh tokens (RFC 9700, section 4.14), locked for every change.
CREATE TABLE sessions (
    id                 uuid        PRIMARY KEY,
    user_id            uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at         timestamptz NOT NULL,
    expires_at         timestamptz NOT NULL,
    current_hash       bytea       NOT NULL, -- SHA-256 of the current refresh token
    current_expires_at timestamptz NOT NULL,
    revoked_at         timestamptz,
    revoke_reason      text        NOT NULL DEFAULT '',
    last_used_at       timestamptz NOT NULL,
    user_agent         text        NOT NULL DEFAULT '',
    ip_address         text        NOT NULL DEFAULT '',
    methods            jsonb       NOT NULL, -- of the authentication (RFC 8176)
    auth_time          timestamptz NOT NULL, -- when the user was last authenticated
    device_id          uuid                  -- of known_devices
);
CREATE INDEX sessions_user ON sessions (user_id);

-- Every refresh token that was ever issued, by SHA-256, so that a used one leads to its session. The successor of a
-- used one is encrypted under a key derived from the used token, and erased when it can't be recovered any more.
CREATE TABLE refresh_tokens (
    token_hash       bytea       PRIMARY KEY,
    session_id       uuid        NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    used_at          timestamptz,
    sealed_successor bytea
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_recoverable ON refresh_tokens (session_id) WHERE sealed_successor IS NOT NULL;

-- Keys with which programs sign in in their owner's name, by SHA-256.
CREATE TABLE api_keys (
    id            uuid        PRIMARY KEY,
    user_id       uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name          text        NOT NULL,
    hash          bytea       NOT NULL UNIQUE,
    scopes        jsonb       NOT NULL,
    allowed_cidrs jsonb       NOT NULL, -- any address when empty
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    last_used_at  timestamptz,
    revoked_at    timestamptz
);
CREATE INDEX api_keys_user ON api_keys (user_id, id);

-- Programs that sign in as themselves, and their secrets, by SHA-256.
CREATE TABLE service_accounts (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL CONSTRAINT service_accounts_name_key UNIQUE,
    permissions jsonb       NOT NULL,
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz
);

CREATE TABLE service_secrets (
    id           uuid        PRIMARY KEY,
    account_id   uuid        NOT NULL REFERENCES service_accounts (id) ON DELETE CASCADE,
    hash         bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz, -- null while it is the newest
    last_used_at timestamptz
);
CREATE INDEX service_secrets_account ON service_secrets (account_id, id);

-- The key ring of an issuer. Its epoch increases with every change of its keys and is their fence: a change locks
-- this row and compares the epoch.
CREATE TABLE key_ring (
    issuer text   PRIMARY KEY,
    epoch  bigint NOT NULL
);

-- The keys of a ring. A private key is encrypted with AES-256-GCM under a data key of its own (sealed_private), and
-- the data key under the key-encryption key (wrapped_key).
CREATE TABLE signing_keys (
    kid            text        PRIMARY KEY,
    issuer         text        NOT NULL REFERENCES key_ring (issuer),
    algorithm      text        NOT NULL,
    state          text        NOT NULL,
    public_key     bytea       NOT NULL,
    sealed_private bytea,
    wrapped_key    bytea,
    created_at     timestamptz NOT NULL,
    published_at   timestamptz,
    activated_at   timestamptz,
    retiring_at    timestamptz,
    retired_at     timestamptz,
    revoked_at     timestamptz,
    -- It became active before every verifier could know it, because the active key was revoked.
    promoted_early boolean     NOT NULL DEFAULT false,
    CONSTRAINT signing_keys_state_is_known
        CHECK (state IN ('STANDBY', 'ACTIVE', 'RETIRING', 'RETIRED', 'REVOKED')),
    CONSTRAINT signing_keys_retiring_has_time CHECK (state <> 'RETIRING' OR retiring_at IS NOT NULL),
    -- A key that has left the set can't sign any more.
    CONSTRAINT signing_keys_retired_is_erased CHECK (state NOT IN ('RETIRED', 'REVOKED') OR sealed_private IS NULL)
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (issuer) WHERE state = 'ACTIVE';

-- Revocations that verifiers are told about. A row is deleted once all tokens that it concerns have expired.
CREATE TABLE revocations (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind    text        NOT NULL,
    subject uuid        NOT NULL,
    CONSTRAINT revocations_kind_is_known CHECK (kind IN ('SESSION', 'USER'))
);
CREATE INDEX revocations_at ON revocations (at);
CREATE INDEX revocations_user ON revocations (subject, id) WHERE kind = 'USER';

-- Audit events. They never change, except that each is given, once, the number of its seal and its own in the feed.
CREATE TABLE audit_events (
    id              uuid        PRIMARY KEY,
    at              timestamptz NOT NULL,
    type            text        NOT NULL,
    outcome         text        NOT NULL,
    reason          text        NOT NULL,
    actor           uuid, -- who did it
    subject         uuid, -- whose account it concerns
    object          text        NOT NULL,
    personal_digest bytea       NOT NULL, -- of audit_personal
    seal            bigint,
    feed_number     bigint, -- given after the commit, so that no smaller one appears after a greater
    CONSTRAINT audit_events_outcome_is_known CHECK (outcome IN ('OK', 'REFUSED'))
);
CREATE INDEX audit_events_subject ON audit_events (subject, id);
CREATE INDEX audit_events_actor ON audit_events (actor, id);
CREATE INDEX audit_events_type ON audit_events (type, id);
CREATE INDEX audit_events_unsealed ON audit_events (id) WHERE seal IS NULL;
CREATE INDEX audit_events_seal ON audit_events (seal, id) WHERE seal IS NOT NULL;
CREATE UNIQUE INDEX audit_events_feed ON audit_events (feed_number);

-- +goose StatementBegin
CREATE FUNCTION audit_events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE'
        AND (OLD.seal IS NULL OR NEW.seal IS NOT DISTINCT FROM OLD.seal)
        AND (OLD.feed_number IS NULL OR NEW.feed_number IS NOT DISTINCT FROM OLD.feed_number)
        AND (to_jsonb(NEW) - 'seal' - 'feed_number') = (to_jsonb(OLD) - 'seal' - 'feed_number') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'audit_events is append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_append_only();

-- Where events came from. It can be erased: the digest that is left in the event can't be guessed without the salt.
CREATE TABLE audit_personal (
    event_id   uuid  PRIMARY KEY REFERENCES audit_events (id),
    subject    uuid,
    salt       bytea NOT NULL,
    ip_address text  NOT NULL,
    user_agent text  NOT NULL
);
CREATE INDEX audit_personal_subject ON audit_personal (subject);

-- The hash chain over the audit events: the hash of a seal is over its events and the seal before it.
CREATE TABLE audit_seals (
    number   bigint      PRIMARY KEY,
    at       timestamptz NOT NULL,
    events   integer     NOT NULL,
    previous bytea       NOT NULL,
    hash     bytea       NOT NULL
);

-- The outbox of mails, written in the transactions that they are about. Recipient, subject and body are erased when a
-- mail was sent or given up; what is left counts against the limits.
CREATE TABLE mails (
    id         uuid        PRIMARY KEY,
    user_id    uuid        REFERENCES users (id) ON DELETE CASCADE, -- whom it is about
    kind       text        NOT NULL,
    recipient  text        NOT NULL,
    subject    text        NOT NULL,
    body       text        NOT NULL,
    mailbox    bytea, -- SHA-256 of the recipient, where that is not the account's address: counts against its limit
    queued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at     timestamptz NOT NULL DEFAULT clock_timestamp(), -- of the next attempt; a claim moves it by the lease
    attempts   integer     NOT NULL DEFAULT 0,
    sent_at    timestamptz,
    dead_at    timestamptz, -- given up
    last_error text        NOT NULL DEFAULT '',
    CONSTRAINT mails_done_is_erased
        CHECK (sent_at IS NULL AND dead_at IS NULL OR recipient = '' AND subject = '' AND body = '')
);
CREATE INDEX mails_due ON mails (due_at) WHERE sent_at IS NULL AND dead_at IS NULL;
CREATE INDEX mails_user ON mails (user_id, kind, queued_at);
CREATE INDEX mails_mailbox ON mails (mailbox, queued_at) WHERE mailbox IS NOT NULL;
CREATE INDEX mails_queued ON mails (queued_at);

-- The outbox of cache invalidations: the schema of pkg/cache.
CREATE TABLE cache_invalidations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      bytea       NOT NULL,
    noted_at timestamptz NOT NULL
);

-- A hash takes keys of any length.
CREATE INDEX cache_invalidations_key ON cache_invalidations USING hash (key);

-- The ledger of jobs: the schema of pkg/jobs.
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

-- Devices that have signed in to an account, whose attempts are counted apart from those of others. A device proves
-- itself by a token with a MAC over its id and the account's.
CREATE TABLE known_devices (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    ip_address   text        NOT NULL, -- of the last sign-in, as its user agent
    user_agent   text        NOT NULL
);
CREATE INDEX known_devices_user ON known_devices (user_id, last_used_at);
ALTER TABLE sessions ADD CONSTRAINT sessions_device
    FOREIGN KEY (device_id) REFERENCES known_devices (id) ON DELETE SET NULL;
CREATE INDEX sessions_device ON sessions (device_id);
-- The users who were deleted, for the services that have to erase their data. Numbers are in the order of commits and
-- without gaps: a transaction takes one from the counter, whose row it then holds until it ends.
CREATE TABLE deletions (
    number     bigint      PRIMARY KEY,
    user_id    uuid        NOT NULL UNIQUE,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE deletion_counter (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last     bigint  NOT NULL
);
INSERT INTO deletion_counter (last) VALUES (0);

-- When a service first reported that it has erased the data of all users up to a number.
CREATE TABLE erasure_reports (
    account_id  uuid        NOT NULL REFERENCES service_accounts (id) ON DELETE CASCADE,
    number      bigint      NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, number)
);

-- Second factors that an administrator wants removed, for owners who lost theirs. The other columns are the state of
-- the factor at the request: it is not removed when it has another one by then, because somebody has it.
CREATE TABLE second_factor_removals (
    user_id        uuid        PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    requested_by   uuid        NOT NULL, -- a user or service account
    requested_at   timestamptz NOT NULL,
    due_at         timestamptz NOT NULL,
    confirmed_at   timestamptz NOT NULL,
    last_step      bigint      NOT NULL,
    recovery_codes integer     NOT NULL
);
CREATE INDEX second_factor_removals_due ON second_factor_removals (due_at);

-- Uses of challenges, which Redis has: a failover of Redis may bring a used one back. Rows are removed after they have
-- expired.
CREATE TABLE used_challenges (
    key        text        PRIMARY KEY, -- a hash of the challenge's secret, and how often it was used before
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_challenges_expired ON used_challenges (expires_at);

-- +goose Down
DROP TABLE used_challenges;
DROP TABLE second_factor_removals;
DROP TABLE erasure_reports;
DROP TABLE deletion_counter;
DROP TABLE deletions;
DROP TABLE job_runs;
DROP TABLE job_schedules;
DROP SEQUENCE job_runs_sequence;
DROP TABLE cache_invalidations;
DROP TABLE mails;
DROP TABLE audit_seals;
DROP TABLE audit_personal;
DROP TABLE audit_events;
DROP FUNCTION audit_events_append_only;
DROP TABLE revocations;
DROP TABLE signing_keys;
DROP TABLE key_ring;
DROP TABLE service_secrets;
DROP TABLE service_accounts;
DROP TABLE api_keys;
DROP TABLE refresh_tokens;
DROP TABLE sessions;
DROP TABLE known_devices;
DROP TABLE second_factors;
DROP TABLE identities;
DROP TABLE mailed_codes;
DROP TABLE user_roles;
DROP TABLE users;
