"""The workers that a loop started: their slots, their ends, and those that never come to take their task."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tamma.core.attempt import Outcome, judge
from tamma.core.errors import ConfigError, ExitCode, PermanentError, TammaError
from tamma.core.event import TaskClaimed, task_stream
from tamma.core.ids import TaskId, WorkerId
from tamma.core.task import CLAIMABLE, Task, TaskState
from tamma.core.worker import WorkerState
from tamma.engine.contained import trouble
from tamma.engine.plan import Policies
from tamma.engine.told import Told
from tamma.ports.dispatch import Dispatcher, Ended
from tamma.ports.store import Store
from tamma.ports.system import Chance

# A worker that ends before its claim gives its slot back at once this often; then its reservation runs out by itself,
# so that a worker that cannot start does not spin.
EARLY_ENDS_MAX: Final = 3
# Something was away, or somebody stopped it: says nothing about whether workers can start.
NO_FAULT: Final = frozenset({
    ExitCode.DELIVERED, ExitCode.TEMPORARY, ExitCode.SIGINT, ExitCode.SIGTERM, -signal.SIGINT, -signal.SIGTERM,
})  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Nursery:
    """Reserves, starts and buries; ``by`` is the loop's own id. The dispatcher is shared with the loop, which waits for it."""

    by: WorkerId
    store: Store
    dispatcher: Dispatcher
    policies: Policies
    chance: Chance
    told: Told
    _early_ends: Counter[TaskId] = field(default_factory=Counter)
    _faults: Counter[TaskId] = field(default_factory=Counter)

    def start(self, task_id: TaskId) -> None:
        """Take a slot and start a worker on the task; nothing if the slot is gone. Raises the dispatcher's TammaError, with
        the slot given back."""
        limits = self.policies.limits
        is_reserved = self.store.tasks.reserve(
            task_id,
            by=self.by,
            duration=self.policies.leases.reservation,
            running_max=limits.running,
            running_per_repository_max=limits.running_per_repository,
        )
        if not is_reserved:
            return
        try:
            self.dispatcher.start(task_id)
        except TammaError as error:
            self._faults[task_id] += isinstance(error, PermanentError | ConfigError)
            self.store.tasks.unreserve(task_id, by=self.by)
            raise

    def bury(self) -> None:
        """Children that ended: one that died holding a task is reaped without waiting for its lease."""
        for ended in self.dispatcher.ended():
            try:
                self._bury(ended)
            except Exception as error:  # noqa: BLE001 — the lease or the reservation runs out by itself; a bug here is no more than told
                self.told.once(f"a worker's end could not be recorded: {trouble(error)}")

    def check_that_workers_start(self) -> None:
        """Raises ConfigError for a task whose workers all died before they took it: it would be started for ever."""
        hopeless = [task_id for task_id, n in self._faults.items() if n > EARLY_ENDS_MAX]
        if hopeless:
            raise ConfigError(
                f"{EARLY_ENDS_MAX + 1} workers for task {hopeless[0]} could not be started, or ended before they took it",
                why="the last lines of its log in the state folder's logs tell",
                fix=f"`tamma work --task-id {hopeless[0]}` shows it here; `tamma doctor` checks each part",
            )

    def kill(self) -> bool:
        """Whether all are gone; one that cannot be killed is left to its lease, and is no reason not to end."""
        try:
            self.dispatcher.kill()
        except TammaError as error:
            self.told.report(f"not every worker could be killed: {error}")
            return False
        return True

    def _bury(self, ended: Ended) -> None:
        if ended.exit_code:  # who ended well has said so; nobody must see the dead online for three beats more
            self.store.workers.change_state(ended.worker, WorkerState.GONE, reason=f"ended with {ended.exit_code}")
        task = self.store.tasks.get(ended.task_id)
        if task.state is TaskState.RUNNING and task.worker == ended.worker:
            self._reap(task, ended)
        elif task.state in CLAIMABLE and not self._has_claimed(task, ended.worker):
            self._note_early_end(task, ended)
        else:
            del self._early_ends[task.id], self._faults[task.id]

    def _note_early_end(self, task: Task, ended: Ended) -> None:
        self._early_ends[task.id] += 1
        self._faults[task.id] += ended.exit_code not in NO_FAULT
        if self._early_ends[task.id] == 1:
            self.told.report(
                f"a worker for {task.ref} ended with {ended.exit_code} before it took the task; its log tells why"
            )
        if self._early_ends[task.id] <= EARLY_ENDS_MAX:
            self.store.tasks.unreserve(task.id, by=self.by)

    def _has_claimed(self, task: Task, worker: WorkerId) -> bool:
        """Whether the worker took the task before it ended; then it settled it by itself, to be tried again."""
        facts = (event.fact for event in self.store.events.stream(task_stream(task.id)))
        return any(isinstance(fact, TaskClaimed) and fact.worker == worker for fact in facts)

    def _reap(self, task: Task, ended: Ended) -> None:
        decision = judge(Outcome.CRASHED, task.counters, self.policies.retry, chance=self.chance.fraction())
        reason = f"its worker (pid {ended.pid}) ended with {ended.exit_code} and no word"
        self.store.claims.reap(
            task.id, epoch=task.epoch, decision=decision, by=self.by, reason=reason, dead=ended.worker
        )
