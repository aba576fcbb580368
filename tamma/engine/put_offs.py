"""Notices that could not be delivered, tried again later and later instead of at every tick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from tamma.core.ids import TaskId
from tamma.core.task import Task

LONGEST_PAUSE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOff:
    """Not to be tried again before ``until``; ``line`` was told about it. Times are the monotonic clock's seconds."""

    of: str
    pause: timedelta
    until: float
    line: str
    is_passing: bool


@dataclass(slots=True)
class PutOffs:
    """By task; the pause starts at ``shortest`` and doubles up to ten minutes."""

    _by_task: dict[TaskId, PutOff] = field(default_factory=dict)

    def add(self, task: Task, line: str, *, now: float, shortest: timedelta, is_passing: bool) -> None:
        """It failed once more; ``is_passing`` if that may be over by itself."""
        before = self._by_task.get(task.id)
        pause = min(before.pause * 2, LONGEST_PAUSE) if before else shortest
        until = now + pause.total_seconds()
        self._by_task[task.id] = PutOff(of=str(task.ref), pause=pause, until=until, line=line, is_passing=is_passing)

    def remove(self, task: Task) -> None:
        """It is delivered."""
        self._by_task.pop(task.id, None)

    def waiting(self, task: Task, *, now: float) -> PutOff | None:
        """Why it is not tried now; None if it is."""
        put_off = self._by_task.get(task.id)
        return put_off if put_off is not None and now < put_off.until else None

    def passing(self, tasks: Iterable[Task]) -> Iterator[str]:
        """The issues of those that were put off for what may be over by itself."""
        for task in tasks:
            put_off = self._by_task.get(task.id)
            if put_off is not None and put_off.is_passing:
                yield put_off.of

    def forget_old(self, *, now: float) -> None:
        """Others may have told an issue meanwhile; who could not be told would have been tried again by now."""
        patience = LONGEST_PAUSE.total_seconds()
        self._by_task = {id_: put_off for id_, put_off in self._by_task.items() if now < put_off.until + patience}
