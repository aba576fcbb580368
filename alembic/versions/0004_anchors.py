"""Old events may go, once an anchor stands for them: what a stream had come to when its events went to an archive.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# `archive` is the version of the LOG.ARCHIVE.SUCCEEDED event in the stream `archive`; `first` the position of the stream's
# first event, which conditions go on to name; `held` the rows as folded so far, NULL where they went as well.
ANCHOR = """
CREATE TABLE anchor (
    stream text COLLATE "C" NOT NULL,
    archive integer NOT NULL,
    version integer NOT NULL,
    hash bytea NOT NULL,
    "position" bigint NOT NULL,
    first bigint NOT NULL,
    at timestamptz NOT NULL,
    held jsonb,
    CONSTRAINT anchor_pkey PRIMARY KEY (stream, archive),
    CONSTRAINT anchor_archive CHECK (archive >= 1),
    CONSTRAINT anchor_version CHECK (version >= 1)
)
"""
INDEX = "CREATE INDEX anchor_of_archive ON anchor (archive)"

# Both have their table bound when they are made: no search path and no temporary table leads them elsewhere.
IS_ANCHORED = """
CREATE FUNCTION tamma_is_anchored(of_stream text, of_version integer) RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM anchor WHERE stream = of_stream AND version >= of_version)
"""
DIGEST = """
CREATE FUNCTION tamma_anchors(of_archive integer) RETURNS bytea LANGUAGE sql STABLE
RETURN (SELECT sha256(coalesce(string_agg(hash || timestamptz_send(at) || sha256(convert_to(
            jsonb_build_array(stream, version, "position", first, held)::text, 'UTF8')), '' ORDER BY stream), ''))
        FROM anchor WHERE archive = of_archive)
"""

# Still a trigger, not a right: it binds the owner too. Only DELETE may pass, and only of what an anchor covers.
DELETE_ANCHORED = (
    "DROP TRIGGER event_append_only ON event",
    """CREATE TRIGGER event_append_only BEFORE UPDATE OR TRUNCATE ON event
       FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only()""",
    """CREATE FUNCTION event_goes_by_anchor() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
           IF EXISTS (SELECT FROM gone WHERE NOT tamma_is_anchored(stream, version)) THEN
               RAISE EXCEPTION 'the event log is append-only' USING DETAIL = 'no anchor stands for these events';
           END IF;
           RETURN NULL;
       END $$""",
    """CREATE TRIGGER event_by_anchor AFTER DELETE ON event REFERENCING OLD TABLE AS gone
       FOR EACH STATEMENT EXECUTE FUNCTION event_goes_by_anchor()""",
    """CREATE TRIGGER anchor_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON anchor
       FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only()""",
)
# Without anchors nobody could tell an archive from a hole.
UNLESS_ARCHIVED = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM anchor) THEN
        RAISE EXCEPTION 'events of this database were archived: the older schema cannot tell that from a hole';
    END IF;
END $$
"""


def upgrade() -> None:
    """Anchors, and a log that lets go of what they stand for."""
    for statement in (ANCHOR, INDEX, IS_ANCHORED, DIGEST, *DELETE_ANCHORED):
        op.execute(statement)


def downgrade() -> None:
    """Refused once something was archived."""
    op.execute(UNLESS_ARCHIVED)
    op.execute("DROP TRIGGER event_by_anchor ON event")
    op.execute("DROP TRIGGER event_append_only ON event")
    op.execute("DROP FUNCTION event_goes_by_anchor()")
    op.execute("DROP FUNCTION tamma_anchors(integer)")
    op.execute("DROP FUNCTION tamma_is_anchored(text, integer)")
    op.execute("DROP TABLE anchor")
    op.execute(
        """CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event
           FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only()"""
    )
