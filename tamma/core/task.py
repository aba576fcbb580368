"""The task: one unit of work for one issue, and the table of its states.

The table is the machine. ``advance`` reads it, and with it the fold of the log; the store's SQL is held to the same table by
``fold(events) == tables``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from tamma.core.errors import IllegalTransition
from tamma.core.ids import BlobId, CorrelationId, IssueRef, Oid, TaskId, WorkerId


@unique
class TaskKind(StrEnum):
    """What a task is for."""

    RESOLVE = "resolve"


@unique
class TaskState(StrEnum):
    """Where a task stands in the queue."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYABLE = "retryable"
    BLOCKED = "blocked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@unique
class Trigger(StrEnum):
    """What moves a task from one state to another."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    RETRY = "retry"
    DEFER = "defer"
    RELEASE = "release"
    CRASH = "crash"
    EXHAUST = "exhaust"
    REFUSE = "refuse"
    BLOCK = "block"
    UNBLOCK = "unblock"
    CANCEL = "cancel"


_S, _T = TaskState, Trigger
TERMINAL: Final = frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED})
LIVE: Final = frozenset(TaskState) - TERMINAL
# Who asked for a task that the loop made; a person's name stands there otherwise.
BY_LABEL: Final = "label"
CLAIMABLE: Final = frozenset({_S.QUEUED, _S.RETRYABLE})

TRANSITIONS: Final[Mapping[tuple[TaskState, Trigger], TaskState]] = {
    (_S.QUEUED, _T.CLAIM): _S.RUNNING,
    (_S.RETRYABLE, _T.CLAIM): _S.RUNNING,
    (_S.RUNNING, _T.SUCCEED): _S.SUCCEEDED,
    (_S.RUNNING, _T.RETRY): _S.RETRYABLE,
    (_S.RUNNING, _T.DEFER): _S.RETRYABLE,
    (_S.RUNNING, _T.RELEASE): _S.QUEUED,
    (_S.RUNNING, _T.CRASH): _S.RETRYABLE,
    (_S.RUNNING, _T.EXHAUST): _S.FAILED,
    (_S.RUNNING, _T.REFUSE): _S.FAILED,
    (_S.RUNNING, _T.BLOCK): _S.BLOCKED,
    (_S.BLOCKED, _T.UNBLOCK): _S.QUEUED,
    **{(state, _T.CANCEL): _S.CANCELLED for state in sorted(LIVE)},
}


@unique
class Notice(StrEnum):
    """What the issue has yet to be told about its task; told once, by whoever gets to it first."""

    DELIVERED = "delivered"
    UNCHANGED = "unchanged"
    ESCALATED = "escalated"
    ASKED = "asked"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a task's attempts came to, each bounded on its own; changed only at settle or reap."""

    attempts: int = 0
    infra: int = 0
    interruptions: int = 0
    crashes: int = 0

    def __post_init__(self) -> None:
        assert min(self.attempts, self.infra, self.interruptions, self.crashes) >= 0, self


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as the event log tells it: no volatile column is here (see ``Lease`` and ``Reservation`` in the store)."""

    id: TaskId
    ref: IssueRef
    kind: TaskKind
    generation: int
    state: TaskState
    title: str
    digest: str
    snapshot: BlobId
    correlation: CorrelationId
    created_at: datetime
    asked_by: str = BY_LABEL
    epoch: int = 0
    version: int = 1
    priority: int = 0
    capabilities: tuple[str, ...] = ()
    counters: Counters = Counters()
    run_after: datetime | None = None
    worker: WorkerId | None = None
    phase: str | None = None
    outcome: str | None = None
    reason: str = ""
    notice: Notice | None = None
    approved: Oid | None = None
    change: str | None = None
    finished_at: datetime | None = None

    def __post_init__(self) -> None:
        assert self.generation >= 1, self.generation
        assert self.epoch >= 0, self.epoch
        assert (self.worker is not None) == (self.state is TaskState.RUNNING), (self.worker, self.state)
        assert (self.finished_at is not None) == (self.state in TERMINAL), (self.finished_at, self.state)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will ever move it again."""
        return self.state in TERMINAL


def next_state(state: TaskState, trigger: Trigger) -> TaskState:
    """The table's answer. Raises IllegalTransition where the table has no cell."""
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise IllegalTransition(f"a {state} task knows no {trigger}") from None


def advance(task: Task, trigger: Trigger, *, at: datetime, worker: WorkerId | None = None) -> Task:
    """The task in its next state, with the columns that follow from the state alone.

    Raises IllegalTransition where the table has no cell.
    """
    state = next_state(task.state, trigger)
    return replace(
        task,
        state=state,
        worker=worker if state is TaskState.RUNNING else None,
        phase=task.phase if state is TaskState.RUNNING else None,
        finished_at=at if state in TERMINAL else None,
    )
