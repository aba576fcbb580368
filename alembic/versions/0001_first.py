"""The first schema: tasks, their events and effects, workers, blobs and what gates said about base commits.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# clock_timestamp(), not now(): now() is the start of the transaction, so a statement that waited for a row lock would
# judge a lease by a moment that is already over. A test fakes it for one session by `tamma.fake_now`.
CLOCK = """
CREATE FUNCTION tamma_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(nullif(current_setting('tamma.fake_now', true), '')::timestamptz, clock_timestamp())
$$
"""

# `asked_by`, `reason` and the like hold text; bounds are the engine's. fillfactor leaves room on the page for the
# version that every event writes, so that such an update touches no index (HOT).
TASK = """
CREATE TABLE task (
    id text COLLATE "C" CONSTRAINT task_pkey PRIMARY KEY,
    forge text NOT NULL,
    repository text NOT NULL,
    issue text NOT NULL,
    kind text NOT NULL,
    generation integer NOT NULL,
    state text NOT NULL,
    title text NOT NULL,
    digest text NOT NULL,
    snapshot text NOT NULL,
    correlation text NOT NULL,
    created_at timestamptz NOT NULL,
    asked_by text NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    version integer NOT NULL DEFAULT 1,
    priority integer NOT NULL DEFAULT 0,
    capabilities text[] NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    infra integer NOT NULL DEFAULT 0,
    interruptions integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    run_after timestamptz,
    worker text,
    phase text,
    outcome text,
    reason text NOT NULL DEFAULT '',
    notice text,
    approved text,
    change text,
    finished_at timestamptz,
    lease_expires_at timestamptz,
    dispatched_by text,
    dispatch_until timestamptz,
    CONSTRAINT task_kind CHECK (kind IN ('resolve')),
    CONSTRAINT task_state CHECK
        (state IN ('queued', 'running', 'retryable', 'blocked', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT task_notice CHECK (notice IN ('delivered', 'unchanged', 'escalated', 'asked', 'cancelled')),
    CONSTRAINT task_phase CHECK
        (phase IN ('prepare', 'baseline', 'implement', 'audit', 'gates', 'repair', 'publish', 'report')),
    CONSTRAINT task_generation CHECK (generation >= 1),
    CONSTRAINT task_epoch CHECK (epoch >= 0),
    CONSTRAINT task_version CHECK (version >= 1),
    CONSTRAINT task_counters CHECK (least(attempts, infra, interruptions, crashes) >= 0),
    CONSTRAINT task_worker CHECK ((worker IS NOT NULL) = (state = 'running')),
    CONSTRAINT task_lease CHECK ((lease_expires_at IS NOT NULL) = (state = 'running')),
    CONSTRAINT task_phase_runs CHECK (phase IS NULL OR state = 'running'),
    CONSTRAINT task_due CHECK (run_after IS NULL OR state = 'retryable'),
    CONSTRAINT task_finished CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    CONSTRAINT task_reservation CHECK ((dispatched_by IS NULL) = (dispatch_until IS NULL)),
    CONSTRAINT task_reserved_waits CHECK (dispatched_by IS NULL OR state IN ('queued', 'retryable')),
    CONSTRAINT task_generations UNIQUE (forge, repository, issue, kind, generation)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02)
"""

TASK_INDEXES = (
    """CREATE UNIQUE INDEX task_live ON task (forge, repository, issue, kind)
       WHERE state IN ('queued', 'running', 'retryable', 'blocked')""",
    """CREATE INDEX task_claim ON task (priority DESC, created_at, id) WHERE state IN ('queued', 'retryable')""",
    """CREATE INDEX task_running ON task (created_at) WHERE state = 'running'""",
    """CREATE INDEX task_reserved ON task (dispatch_until) WHERE dispatched_by IS NOT NULL""",
    """CREATE INDEX task_notices ON task (created_at) WHERE notice IS NOT NULL""",
    """CREATE INDEX task_newest ON task (created_at DESC, id)""",
)

# xid stands before position, so that a writer has its transaction id before it takes a position: the barrier of the
# tailing reader rests on that order. No stored xid is ever compared, so dump and restore are safe.
EVENT = """
CREATE TABLE event (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT event_pkey PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    tags text[] NOT NULL,
    correlation text,
    at timestamptz NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT event_version CHECK (version >= 1),
    CONSTRAINT event_stream_version UNIQUE (stream, version)
)
"""
EVENT_TAGS = "CREATE INDEX event_tags ON event USING gin (tags) WITH (fastupdate = off)"

# Grants cannot stop a table's owner, and an embedded database knows only one role; a trigger stops a mistake by anyone.
APPEND_ONLY = (
    """CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE EXCEPTION 'the event log is append-only'; END $$""",
    """CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event
       FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only()""",
)

EFFECT = """
CREATE TABLE effect (
    key text COLLATE "C" CONSTRAINT effect_pkey PRIMARY KEY,
    task_id text COLLATE "C" NOT NULL CONSTRAINT effect_task REFERENCES task (id),
    kind text NOT NULL,
    state text NOT NULL,
    epoch integer NOT NULL,
    intent jsonb NOT NULL,
    result jsonb NOT NULL DEFAULT '{}',
    held_by text,
    held_until timestamptz,
    CONSTRAINT effect_kind CHECK (kind IN ('push', 'change', 'comment', 'labels')),
    CONSTRAINT effect_state CHECK (state IN ('intended', 'done', 'abandoned')),
    CONSTRAINT effect_epoch CHECK (epoch >= 0),
    CONSTRAINT effect_hold CHECK ((held_by IS NULL) = (held_until IS NULL))
)
"""
EFFECT_INDEX = "CREATE INDEX effect_of_task ON effect (task_id)"

WORKER = """
CREATE TABLE worker (
    id text COLLATE "C" CONSTRAINT worker_pkey PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    role text NOT NULL,
    release text NOT NULL,
    capabilities text[] NOT NULL,
    state text NOT NULL,
    registered_at timestamptz NOT NULL,
    last_beat_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    CONSTRAINT worker_role CHECK (role IN ('orchestrator', 'worker')),
    CONSTRAINT worker_state CHECK (state IN ('online', 'draining', 'offline', 'gone')),
    CONSTRAINT worker_version CHECK (version >= 1)
)
"""
WORKER_INDEXES = (
    "CREATE INDEX worker_beats ON worker (last_beat_at) WHERE state IN ('online', 'draining')",
    "CREATE INDEX worker_newest ON worker (registered_at DESC, id)",
)

BLOB = """
CREATE TABLE blob (
    id text COLLATE "C" CONSTRAINT blob_pkey PRIMARY KEY,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT tamma_now(),
    CONSTRAINT blob_size CHECK (octet_length(content) <= 33554432)
)
"""

BASELINE = """
CREATE TABLE baseline (
    key text COLLATE "C" CONSTRAINT baseline_pkey PRIMARY KEY,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT tamma_now()
)
"""


def upgrade() -> None:
    """Create everything."""
    tasks = (TASK, *TASK_INDEXES)
    events = (EVENT, EVENT_TAGS, *APPEND_ONLY)
    for statement in (CLOCK, *tasks, *events, EFFECT, EFFECT_INDEX, WORKER, *WORKER_INDEXES, BLOB, BASELINE):
        op.execute(statement)


def downgrade() -> None:
    """Drop everything."""
    op.execute("DROP TABLE baseline, blob, worker, effect, event, task")
    op.execute("DROP FUNCTION event_is_append_only()")
    op.execute("DROP FUNCTION tamma_now()")
