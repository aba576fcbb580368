"""The right to write for one attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tamma.core.ids import TaskId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """(task, epoch, worker), and the moment it ends by the database's clock.

    The epoch is the fencing token: every write of the attempt carries it, and the database refuses an older one.
    """

    task_id: TaskId
    epoch: int
    worker: WorkerId
    expires_at: datetime
