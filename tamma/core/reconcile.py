"""What a tick does, decided from what it saw. The order of the actions is the policy: repair before dispatch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from tamma.core.attempt import Decision, Outcome, judge
from tamma.core.ids import IssueRef, TaskId, WorkerId, task_id
from tamma.core.issue import Issue
from tamma.core.policy import Limits, RetryPolicy, SelectionPolicy
from tamma.core.selection import Reason, priority_of, rank
from tamma.core.task import Notice, Task, TaskKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """An open, labelled issue with the reasons against it, if any; ``generation`` is that of the task it would get."""

    issue: Issue
    generation: int = 1
    against: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Bounded facts that one tick decides on; times are the database's."""

    now: datetime | None
    expired: tuple[Task, ...] = ()
    overdue: tuple[TaskId, ...] = ()
    silent_workers: tuple[WorkerId, ...] = ()
    called_off: tuple[tuple[Task, str], ...] = ()
    untold: tuple[Task, ...] = ()
    prospects: tuple[Prospect, ...] = ()
    ready: tuple[Task, ...] = ()
    occupied: Mapping[tuple[str, str], int] = field(default_factory=dict)
    slots: int = 0
    capabilities: frozenset[str] = frozenset()
    first_due: datetime | None = None

    @property
    def due_in(self) -> timedelta | None:
        """How long until the first waiting retry is due."""
        return self.first_due - self.now if self.first_due and self.now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reap:
    """End an attempt whose lease ran out."""

    task: Task
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreserve:
    """Give back a slot whose worker never came."""

    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkOffline:
    """A worker has missed too many beats."""

    worker: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOff:
    """Cancel a task whose issue was closed or unlabelled."""

    task: Task
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Tell the issue what became of its task."""

    task: Task
    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Make a task for an eligible issue."""

    issue: Issue
    generation: int
    priority: int

    @property
    def task_id(self) -> TaskId:
        """The id the task will have."""
        return task_id(self.issue.ref, kind=TaskKind.RESOLVE, generation=self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Reserve a slot for a task and start a worker on it."""

    task_id: TaskId
    ref: IssueRef


# The golden ratio: any number of steps of this size, taken modulo one, lie well apart. What was reaped together is not to
# come due together.
_SPREAD: Final = 0.618_033_988_75

Action: TypeAlias = Reap | Unreserve | MarkOffline | CallOff | Tell | Create | Dispatch


def reconcile(
    view: View, *, limits: Limits, selection: SelectionPolicy, retry: RetryPolicy, chance: float
) -> tuple[Action, ...]:
    """The actions of one tick, in the order to perform them; the same view gives the same actions."""
    called_off = {task.id for task, _ in view.called_off}
    creations = tuple(_creations(view, limits=limits, selection=selection))
    return (
        *(_reap(task, retry, (chance + n * _SPREAD) % 1) for n, task in enumerate(view.expired)),
        *(Unreserve(task_id=task) for task in view.overdue),
        *(MarkOffline(worker=worker) for worker in view.silent_workers),
        *(CallOff(task=task, reason=reason) for task, reason in view.called_off),
        *(Tell(task=task, notice=task.notice) for task in view.untold if task.notice is not None),
        *creations,
        *_dispatches(view, creations, without=called_off, limits=limits),
    )


def _reap(task: Task, retry: RetryPolicy, chance: float) -> Reap:
    return Reap(task=task, decision=judge(Outcome.CRASHED, task.counters, retry, chance=chance))


def _creations(view: View, *, limits: Limits, selection: SelectionPolicy) -> Iterator[Create]:
    eligible = {c.issue.ref: c for c in view.prospects if not c.against}
    ranked = rank([c.issue for c in eligible.values()], selection)
    for issue in ranked[: limits.creations_per_tick]:
        generation = eligible[issue.ref].generation
        yield Create(issue=issue, generation=generation, priority=priority_of(issue, selection))


def _dispatches(view: View, creations: Sequence[Create], *, without: set[TaskId], limits: Limits) -> Iterator[Dispatch]:
    occupied = Counter(view.occupied)
    slots = min(view.slots, limits.running - sum(occupied.values()))
    waiting = [
        (-t.priority, 0, t.id, t.ref)
        for t in view.ready
        if t.id not in without and set(t.capabilities) <= view.capabilities
    ]
    waiting += [(-c.priority, 1, c.task_id, c.issue.ref) for c in creations]
    for _, _, waiting_id, ref in sorted(waiting, key=lambda w: w[:2]):
        place = (ref.forge, ref.repository)
        if slots <= 0:
            return
        if occupied[place] >= limits.running_per_repository:
            continue
        occupied[place] += 1
        slots -= 1
        yield Dispatch(task_id=waiting_id, ref=ref)
