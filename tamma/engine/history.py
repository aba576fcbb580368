"""The state as it was: tables folded from the log up to a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tamma.core.errors import ConfigError
from tamma.core.event import ARCHIVE_STREAM, LogArchived
from tamma.core.moment import local
from tamma.core.task import Task, TaskState
from tamma.core.worker import WorkerRecord
from tamma.ports.store import Events


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Tasks per state (zeros included), the newest tasks, and the workers that had not left, newest first.

    Not among them are so many tasks and workers that were archived since, rows and all.
    """

    counts: Mapping[TaskState, int]
    tasks: Sequence[Task]
    workers: Sequence[WorkerRecord]
    tasks_removed: int = 0
    workers_removed: int = 0


def standing(log: Events, *, at: datetime, limit: int) -> Standing:
    """What the tables held then; at most ``limit`` tasks. Raises ConfigError for a moment of which only archives can tell."""
    tables = log.fold(at=at)
    # After the fold: an archive that was made meanwhile may have taken what it needed.
    made = archives(log)
    if (until := horizon(made)) is not None and at < until:
        raise ConfigError(
            f"how it stood at {local(at)} cannot be told",
            why=f"events up to {local(until)} went to archives, the newest of them to {made[-1][1].file}",
            fix="name a later moment, or restore a backup of that time into another database",
        )
    counts = Counter(task.state for task in tables.tasks.values())
    tasks = sorted(tables.tasks.values(), key=lambda task: (-task.created_at.timestamp(), task.id))
    workers = sorted(tables.workers.values(), key=lambda worker: (-worker.registered_at.timestamp(), worker.id))
    since = [fact for made_at, fact in made if made_at > at]
    return Standing(
        counts={state: counts[state] for state in TaskState},
        tasks=tasks[:limit],
        workers=[worker for worker in workers if worker.state != "gone"],
        tasks_removed=sum(fact.tasks_removed for fact in since),
        workers_removed=sum(fact.workers_removed for fact in since),
    )


def archives(log: Events) -> list[tuple[datetime, LogArchived]]:
    """Every archive that was made, and when."""
    return [(event.at, event.fact) for event in log.stream(ARCHIVE_STREAM) if isinstance(event.fact, LogArchived)]


def horizon(made: Sequence[tuple[datetime, LogArchived]]) -> datetime | None:
    """The newest archived event's time: from then on the log can tell everything."""
    return max((fact.until for _, fact in made), default=None)
