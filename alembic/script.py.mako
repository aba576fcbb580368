"""${message}"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Old code must still run on this schema until the last process of it is gone."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Keep the data of every column that survives."""
    ${downgrades if downgrades else "pass"}
