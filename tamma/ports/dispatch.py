"""How a reserved task becomes a running worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from tamma.core.ids import TaskId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A worker that we started is no more. Its exit code is for the log; the task's state is never derived from it.

    ``worker`` is its exact identity, so that the lease of that very process can be reaped at once.
    """

    task_id: TaskId
    worker: WorkerId
    pid: int
    exit_code: int


class Dispatcher(Protocol):
    """Starts workers and tells when they end."""

    @property
    def slots(self) -> int:
        """How many more may run now."""
        ...

    def start(self, task_id: TaskId) -> int:
        """Start ``tamma work --task-id``; returns its pid. Raises TransientError when the machine refuses."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether ``ended`` would tell of one."""
        ...

    def ended(self) -> Sequence[Ended]:
        """Those that ended since the last call; never blocks."""
        ...

    def running(self) -> Sequence[TaskId]:
        """Those still alive."""
        ...

    def drain(self) -> None:
        """Ask each worker to stop by itself (SIGTERM); may be repeated."""
        ...

    def kill(self) -> None:
        """End each worker and all that it started, at once."""
        ...

    def wait(self, timeout: timedelta) -> bool:
        """Until none is alive; False if some still is."""
        ...
