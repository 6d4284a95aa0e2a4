-- Jobs, their plans, attempts and receipts. The job and batch rows are the outbox: the database alone is the truth.

-- Reference data (charges by category), frozen at a job's start; jobs that start with the same data share a row.
CREATE TABLE jobs.lookups (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE,
    body bytea NOT NULL
);

CREATE TABLE jobs.uploads (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL,
    file_name text NOT NULL,
    blob_key text NOT NULL,
    bytes bigint NOT NULL,
    sha256 bytea NOT NULL,
    -- What its sender said that it is.
    format text,
    -- Where its records end, seen while it came (operators.plan.survey); null where it takes an executor to tell.
    survey bytea,
    -- The blob that the survey's batches are ranges of, where that is not the upload's own; jobs that use it share it.
    plan_blob text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX uploads_by_blob ON jobs.uploads (blob_key);
CREATE INDEX uploads_by_plan_blob ON jobs.uploads (plan_blob) WHERE plan_blob IS NOT NULL;
CREATE INDEX uploads_by_age ON jobs.uploads (created_at);
CREATE INDEX uploads_by_name ON jobs.uploads (owner_id, file_name, created_at DESC);
-- The same content of the same owner is kept once.
CREATE INDEX uploads_by_content ON jobs.uploads (owner_id, sha256);

-- Files that come in pieces (tus). One that is whole becomes an upload of the same id.
CREATE TABLE jobs.staged (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL,
    file_name text NOT NULL,
    -- These three as they were announced.
    bytes bigint NOT NULL,
    sha256 bytea,
    format text,
    -- Upload-Metadata, as it was given.
    metadata text NOT NULL,
    -- What is durable and acknowledged.
    received bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    touched_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX staged_of_owner ON jobs.staged (owner_id);
CREATE INDEX staged_by_age ON jobs.staged (touched_at);

-- Where its bytes are: the first `length` ones of each blob.
CREATE TABLE jobs.parts (
    upload_id uuid NOT NULL REFERENCES jobs.staged ON DELETE CASCADE,
    start bigint NOT NULL,
    length bigint NOT NULL,
    blob_key text NOT NULL,
    PRIMARY KEY (upload_id, start)
);
CREATE INDEX parts_by_blob ON jobs.parts (blob_key);

CREATE TABLE jobs.jobs (
    id uuid PRIMARY KEY,
    -- Order of submission, for pages.
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    owner_id uuid NOT NULL,
    name text NOT NULL,
    args bytea NOT NULL,
    -- jobber.model.InputOptions, JSON: how the input is to be cut.
    input_options bytea NOT NULL,
    idempotency_key text,
    payload_sha256 bytea NOT NULL,
    -- Exactly one of the two holds the input; none when a submission already failed or was empty.
    inline_data bytea,
    upload_id uuid REFERENCES jobs.uploads,
    blob_key text,
    blob_bytes bigint,
    max_errors bigint,
    max_error_ratio double precision,
    -- No more rows than this are let out a second; null: as many as there is room for.
    max_rows_per_second integer CHECK (max_rows_per_second > 0),
    -- 0 low, 1 normal, 2 high.
    priority smallint NOT NULL DEFAULT 1,
    -- How its rows are written (jobber.model.Writing).
    mode text NOT NULL DEFAULT 'INSERT' CHECK (mode IN ('INSERT', 'UPSERT', 'UPDATE')),
    keys text[] NOT NULL DEFAULT '{}',
    dry_run boolean NOT NULL DEFAULT false,
    whole boolean NOT NULL DEFAULT false,
    state text NOT NULL CHECK (state IN ('QUEUED', 'VALIDATING', 'RUNNING', 'PAUSED', 'CANCELING',
                                         'CANCELED', 'SUCCEEDED', 'PARTIAL', 'FAILED')),
    -- What a job in CANCELING becomes once products has closed it.
    closing text CHECK (closing IN ('CANCELED', 'FAILED')),
    error text,
    warnings text[] NOT NULL DEFAULT '{}',
    -- The plan; null until it is recorded, and never changed after.
    layout bytea,
    -- Another blob that its batches are ranges of: the input could not be read in parts as it is. Its upload may have it, too.
    plan_blob text,
    total bigint,
    batches integer,
    lane text CHECK (lane IN ('fast', 'bulk')),
    lookups_id bigint REFERENCES jobs.lookups,
    -- Every batch is staged, and products is asked to make the rows visible.
    publishing boolean NOT NULL DEFAULT false,
    -- Batches below it were dispatched at least once.
    next_batch integer NOT NULL DEFAULT 0,
    -- A job with a rate has nothing to dispatch before.
    paced_until timestamptz,
    plan_no integer NOT NULL DEFAULT 0,
    plan_dispatched_at timestamptz,
    plan_claimed_at timestamptz,
    plan_attempts integer NOT NULL DEFAULT 0,
    parent_id uuid REFERENCES jobs.jobs,
    -- Where its trace begins (https://www.w3.org/TR/trace-context/); null when nothing was traced.
    traceparent text,
    attempt integer NOT NULL DEFAULT 1,
    -- Changes of state; with the number of receipts it makes the sequence number of progress.
    changes bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz,
    -- When its input, rejects and results were let go of (retention.py).
    expired_at timestamptz
);
CREATE INDEX jobs_by_upload ON jobs.jobs (upload_id) WHERE upload_id IS NOT NULL;
CREATE INDEX jobs_by_blob ON jobs.jobs (blob_key) WHERE blob_key IS NOT NULL;
CREATE INDEX jobs_by_plan_blob ON jobs.jobs (plan_blob) WHERE plan_blob IS NOT NULL;
CREATE INDEX jobs_kept ON jobs.jobs (ended_at) WHERE ended_at IS NOT NULL AND expired_at IS NULL;
CREATE UNIQUE INDEX jobs_idempotency ON jobs.jobs (owner_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_of_owner ON jobs.jobs (owner_id, number DESC);
-- Jobs that have something left to dispatch.
CREATE INDEX jobs_hungry ON jobs.jobs (owner_id, priority DESC, number)
    WHERE state IN ('QUEUED', 'RUNNING') AND batches IS NOT NULL AND next_batch < batches;
CREATE INDEX jobs_unplanned ON jobs.jobs (number) WHERE state IN ('QUEUED', 'VALIDATING') AND batches IS NULL;
CREATE INDEX jobs_publishing ON jobs.jobs (number) WHERE publishing AND state = 'RUNNING';
CREATE INDEX jobs_closing ON jobs.jobs (number) WHERE state = 'CANCELING';

CREATE TABLE jobs.batches (
    job_id uuid NOT NULL REFERENCES jobs.jobs,
    batch_no integer NOT NULL,
    start bigint NOT NULL,
    length bigint NOT NULL,
    first_row bigint NOT NULL,
    rows integer NOT NULL,
    -- BLAKE3 of its bytes.
    digest bytea NOT NULL,
    -- Planning has seen that it can be parsed at once.
    plain boolean NOT NULL DEFAULT false,
    dispatch_no integer NOT NULL DEFAULT 0,
    dispatched_at timestamptz,
    claimed_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    -- It is done with: its receipt is stored, or its job was closed without it.
    settled boolean NOT NULL DEFAULT false,
    PRIMARY KEY (job_id, batch_no)
);
-- Batches that are with executors.
CREATE INDEX batches_outstanding ON jobs.batches (job_id, batch_no) WHERE dispatch_no > 0 AND NOT settled;

CREATE TABLE jobs.receipts (
    job_id uuid NOT NULL,
    batch_no integer NOT NULL,
    inserted bigint NOT NULL,
    updated bigint NOT NULL,
    unchanged bigint NOT NULL,
    -- Written and not visible yet.
    staged bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL,
    rejects bytea NOT NULL,
    results bytea NOT NULL,
    committed_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, batch_no),
    FOREIGN KEY (job_id, batch_no) REFERENCES jobs.batches
);
-- The blocks are compressed already.
ALTER TABLE jobs.receipts ALTER COLUMN rejects SET STORAGE EXTERNAL;
ALTER TABLE jobs.receipts ALTER COLUMN results SET STORAGE EXTERNAL;

-- Blobs that nothing seems to refer to (retention.py). One that is doomed may be gone: no row may refer to it any more.
CREATE TABLE jobs.strays (
    blob_key text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    doomed_at timestamptz,
    deleted_at timestamptz
);
CREATE INDEX strays_due ON jobs.strays (seen_at) WHERE deleted_at IS NULL;

-- What can never be loaded, and why (dead_letters.py): bounded in number.
CREATE TABLE jobs.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    -- Its beginning, and that one's digest: equal ones share a row.
    body bytea NOT NULL,
    sha256 bytea NOT NULL,
    reason text NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (topic, sha256)
);

-- Who did what; it only grows.
CREATE TABLE jobs.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_id uuid,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail jsonb
);
