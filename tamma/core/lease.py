"""The right to write for one attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tamma.core.errors import TaskCancelled
from tamma.core.ids import TaskId, WorkerId

LEASE_RAN_OUT: Final = "the lease ran out without a word"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """(task, epoch, worker), and the moment it ends by the database's clock.

    The epoch is the fencing token: every write of the attempt carries it, and the database refuses an older one.
    """

    task_id: TaskId
    epoch: int
    worker: WorkerId
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The reply to a renewal. ``cancel``: the task was called off, and the lease is as it was; else it has its whole time.
    ``drain``: the worker was asked to give back what it holds and to end."""

    lease: Lease
    cancel: bool = False
    drain: bool = False

    def check(self) -> None:
        """Raises TaskCancelled if the task was called off."""
        if self.cancel:
            raise called_off(self.lease.task_id)


def called_off(task_id: TaskId) -> TaskCancelled:
    """The error for an attempt whose task is no more to be done."""
    return TaskCancelled(f"task {task_id} was cancelled", why="by a human or by its issue's state")
