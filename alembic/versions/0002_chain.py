"""The log as a chain: a hash per event over the one before it in its stream, and an append on a condition.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What is hashed is unambiguous (JSON, and fixed lengths before it) and independent of any session's settings.
CHAIN = """
CREATE FUNCTION tamma_chain(prev bytea, stream text, version integer, "position" bigint, type text, tags text[],
                            correlation text, at timestamptz, data jsonb)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(prev || timestamptz_send(at) || convert_to(
    jsonb_build_array(stream, version, "position", type, tags, correlation, data)::text, 'UTF8'))
"""

# Locks first, in an order that all share, then the check: each statement of a volatile function has a snapshot of its
# own, so the check sees whatever was committed before the locks were got. A single statement's snapshot would be older.
APPEND = """
CREATE FUNCTION tamma_append(for_stream text, new_type text, new_tags text[], for_correlation text, new_data jsonb,
                             unless_types text[], unless_tags text[], after bigint)
RETURNS TABLE (told_position bigint, told_version integer, told_at timestamptz, told_hash bytea)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    key bigint;
    last_version integer := 0;
    last_hash bytea := '';
    xid xid8;
BEGIN
    FOR key IN SELECT DISTINCT hashtextextended(tag, 0) FROM unnest(new_tags || unless_tags || for_stream) AS tag ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(key);
    END LOOP;
    IF EXISTS (SELECT FROM event WHERE tags @> unless_tags AND type = ANY (unless_types) AND position > after) THEN
        RETURN;
    END IF;
    SELECT version, hash INTO last_version, last_hash FROM event WHERE stream = for_stream ORDER BY version DESC LIMIT 1;
    told_at := tamma_now();
    told_version := coalesce(last_version, 0) + 1;
    xid := pg_current_xact_id();
    told_position := nextval('event_position_seq');
    told_hash := tamma_chain(coalesce(last_hash, ''), for_stream, told_version, told_position, new_type, new_tags,
                             for_correlation, told_at, new_data);
    INSERT INTO event (xid, position, stream, version, type, tags, correlation, at, data, hash) OVERRIDING SYSTEM VALUE
        VALUES (xid, told_position, for_stream, told_version, new_type, new_tags, for_correlation, told_at, new_data,
                told_hash);
    RETURN NEXT;
END $$
"""

# What was written before there was a chain is chained as it lies there.
CHAIN_WHAT_IS = """
DO $$
DECLARE
    told record;
    last_stream text := '';
    last_hash bytea := '';
BEGIN
    FOR told IN SELECT * FROM event ORDER BY stream, version LOOP
        IF told.stream <> last_stream THEN
            last_stream := told.stream;
            last_hash := '';
        END IF;
        last_hash := tamma_chain(last_hash, told.stream, told.version, told.position, told.type, told.tags,
                                 told.correlation, told.at, told.data);
        UPDATE event SET hash = last_hash WHERE position = told.position;
    END LOOP;
END $$
"""
HEADS = (
    """UPDATE task SET head = hash FROM event WHERE stream = 'task:' || task.id AND event.version = task.version""",
    """UPDATE worker SET head = hash FROM event WHERE stream = 'worker:' || worker.id AND event.version = worker.version""",
)


def upgrade() -> None:
    """Chain what is there, and everything from now on."""
    op.execute(CHAIN)
    op.execute("ALTER TABLE task ADD COLUMN head bytea NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE worker ADD COLUMN head bytea NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE event ADD COLUMN hash bytea")
    op.execute("ALTER TABLE event DISABLE TRIGGER event_append_only")
    op.execute(CHAIN_WHAT_IS)
    op.execute("ALTER TABLE event ENABLE TRIGGER event_append_only")
    op.execute("ALTER TABLE event ALTER COLUMN hash SET NOT NULL")
    for statement in HEADS:
        op.execute(statement)
    op.execute(APPEND)


def downgrade() -> None:
    """Events lose their hashes, and nothing else."""
    op.execute("DROP FUNCTION tamma_append(text, text, text[], text, jsonb, text[], text[], bigint)")
    op.execute("ALTER TABLE event DROP COLUMN hash")
    op.execute("ALTER TABLE worker DROP COLUMN head")
    op.execute("ALTER TABLE task DROP COLUMN head")
    op.execute("DROP FUNCTION tamma_chain(bytea, text, integer, bigint, text, text[], text, timestamptz, jsonb)")
