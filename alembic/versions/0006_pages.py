"""Live tasks, notices and retries of each repository by themselves, in the order a tick reads them.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two more partial indexes, and one in another order."""
    op.execute("DROP INDEX task_notices")
    op.execute("CREATE INDEX task_notices ON task (forge, repository, id) WHERE notice IS NOT NULL")
    op.execute(
        """CREATE INDEX task_pages ON task (forge, repository, id)
           WHERE state IN ('queued', 'running', 'retryable', 'blocked')"""
    )
    op.execute("CREATE INDEX task_due ON task (forge, repository, run_after) WHERE state = 'retryable'")


def downgrade() -> None:
    """As it was."""
    op.execute("DROP INDEX task_due")
    op.execute("DROP INDEX task_pages")
    op.execute("DROP INDEX task_notices")
    op.execute("CREATE INDEX task_notices ON task (created_at) WHERE notice IS NOT NULL")
