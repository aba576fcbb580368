"""The queue of each repository by itself, so that a tick reads no more of it than it can use.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One more partial index."""
    op.execute(
        """CREATE INDEX task_ready ON task (forge, repository, priority DESC, created_at, id)
           WHERE state IN ('queued', 'retryable')"""
    )


def downgrade() -> None:
    """Without it."""
    op.execute("DROP INDEX task_ready")
