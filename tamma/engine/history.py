"""The state as it was: tables folded from the log up to a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tamma.core.event import Event
from tamma.core.fold import fold
from tamma.core.task import Task, TaskState
from tamma.core.worker import WorkerRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Tasks per state (zeros included), the newest tasks, and the workers that had not left, newest first."""

    counts: Mapping[TaskState, int]
    tasks: Sequence[Task]
    workers: Sequence[WorkerRecord]


def standing(events: Iterable[Event], *, limit: int) -> Standing:
    """What the tables held after these events, in log order; at most ``limit`` tasks."""
    tables = fold(events)
    counts = Counter(task.state for task in tables.tasks.values())
    tasks = sorted(tables.tasks.values(), key=lambda task: (-task.created_at.timestamp(), task.id))
    workers = sorted(tables.workers.values(), key=lambda worker: (-worker.registered_at.timestamp(), worker.id))
    return Standing(
        counts={state: counts[state] for state in TaskState},
        tasks=tasks[:limit],
        workers=[worker for worker in workers if worker.state != "gone"],
    )
