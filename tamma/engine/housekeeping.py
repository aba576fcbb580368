"""Removes what tasks that are over left on this machine; a task that may get another attempt keeps what it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tamma.core.errors import NoSuchTask, TammaError, TransientError
from tamma.core.event import WorkSalvaged
from tamma.core.ids import TaskId, WorkerId
from tamma.core.leaks import without_secrets
from tamma.core.lease import Lease
from tamma.core.redact import Redactor
from tamma.core.task import TERMINAL, Task, TaskState
from tamma.ports.forge import Forge
from tamma.ports.sandbox import Sandbox
from tamma.ports.store import Store
from tamma.ports.workspace import Workspaces

_LOOKS_MAX: Final = 200
_TASKS_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeper:
    """Bounded: so many tasks are looked at, and so many cleared, each time."""

    store: Store
    forge: Forge
    workspaces: Workspaces
    sandbox: Sandbox
    redactor: Redactor
    by: WorkerId

    def tidy(self, *, chance: float) -> int:
        """How many tasks were cleared. ``chance`` says where to begin, so that what stays does not hide the rest for ever."""
        self.sandbox.tidy()
        found = self.workspaces.leftovers()
        begin = int(chance * len(found))
        cleared = 0
        for task_id in (*found[begin:], *found[:begin])[:_LOOKS_MAX]:
            cleared += self._clear(task_id)
            if cleared >= _TASKS_MAX:
                break
        return cleared

    def _clear(self, task_id: TaskId) -> bool:
        try:
            task = self.store.tasks.get(task_id)
        except NoSuchTask:
            return False  # another database's, perhaps
        if task.state not in TERMINAL:
            return False
        try:
            if task.state is TaskState.FAILED:
                self._salvage(task)
        except TransientError:
            return False  # nothing is removed that could not be kept; the next look tries again
        except TammaError:
            pass  # there is nothing that could ever be kept
        self.workspaces.discard(task_id)
        return True

    def _salvage(self, task: Task) -> None:
        """What its last attempt had when it was killed; nobody will come after it to keep that."""
        remote = next((r for r in self.forge.repositories() if r.name == task.ref.repository), None)
        if remote is None:
            return
        lease = Lease(task_id=task.id, epoch=task.epoch, worker=self.by, expires_at=task.created_at)
        for candidate in self.workspaces.salvage(remote, task_id=task.id, epoch=task.epoch + 1):
            kept = without_secrets(candidate.patch, self.redactor)
            if kept:
                patch = self.store.blobs.put(kept)
                self.store.claims.salvage(
                    lease,
                    WorkSalvaged(epoch=task.epoch, base=candidate.base, patch=patch, files=len(candidate.changes)),
                )
