"""The tables as the log tells them: ``state == fold(events)``, always, but for the volatile columns named here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from tamma.core.attempt import Outcome
from tamma.core.effect import Effect, EffectKind, EffectState
from tamma.core.errors import IllegalTransition
from tamma.core.event import (
    ChangeDelivered,
    EffectIntended,
    EffectRecorded,
    Event,
    LogArchived,
    NoticeSent,
    PhaseEntered,
    TaskCancelled,
    TaskClaimed,
    TaskCreated,
    TaskReaped,
    TaskSettled,
    TaskUnblocked,
    WorkerRegistered,
    WorkerStateChanged,
    WorkPaused,
    WorkResumed,
    task_stream,
    worker_stream,
)
from tamma.core.ids import IssueRef, TaskId, WorkerId
from tamma.core.task import Counters, Notice, Task, TaskKind, TaskState, Trigger, advance
from tamma.core.worker import WorkerRecord, WorkerRole, WorkerState

# No event tells of these: they say who may write now, and are worth nothing a minute later.
VOLATILE: Final[Mapping[str, frozenset[str]]] = {
    "task": frozenset({"lease_expires_at", "dispatched_by", "dispatch_until"}),
    "effect": frozenset({"held_by", "held_until"}),
    "worker": frozenset({"last_beat_at"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What the tables hold without their volatile columns; ``versions`` is the length of each stream."""

    tasks: Mapping[TaskId, Task] = field(default_factory=dict)
    effects: Mapping[str, Effect] = field(default_factory=dict)
    workers: Mapping[WorkerId, WorkerRecord] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Draft:
    tasks: dict[TaskId, Task]
    effects: dict[str, Effect]
    workers: dict[WorkerId, WorkerRecord]
    versions: dict[str, int]


class Folder:
    """The tables as they become, event by event, on top of ``start``."""

    def __init__(self, start: Tables | None = None) -> None:
        base = start or Tables()
        self._draft = _Draft(
            tasks=dict(base.tasks),
            effects=dict(base.effects),
            workers=dict(base.workers),
            versions=dict(base.versions),
        )

    def apply(self, event: Event) -> None:
        """One event more, in log order.

        Raises IllegalTransition for a change of state that the table does not know, AssertionError for a hole in a stream,
        KeyError for an event of a task or worker that was never created; then nothing is changed but the stream's version.
        """
        known = self._draft.versions.get(event.stream, 0)
        self._draft.versions[event.stream] = event.version
        assert event.version == known + 1, f"{event.stream}: version {event.version} follows {known}"
        _apply(self._draft, event)

    @property
    def tables(self) -> Tables:
        """What they hold now."""
        draft = self._draft
        return Tables(tasks=draft.tasks, effects=draft.effects, workers=draft.workers, versions=draft.versions)


def fold(events: Iterable[Event], start: Tables | None = None) -> Tables:
    """The tables after these events, in log order, on top of ``start``. Raises what ``Folder.apply`` raises."""
    folder = Folder(start)
    for event in events:
        folder.apply(event)
    return folder.tables


def _apply(draft: _Draft, event: Event) -> None:
    match event.fact:
        case TaskCreated():
            assert event.stream == task_stream(event.fact.task_id), event
            draft.tasks[event.fact.task_id] = _created(event, event.fact)
        case WorkerRegistered():
            assert event.stream == worker_stream(event.fact.worker), event
            draft.workers[event.fact.worker] = _registered(event.fact, at=event.at)
        case WorkerStateChanged(worker=worker, state=state):
            draft.workers[worker] = replace(draft.workers[worker], state=WorkerState(state))
        case WorkPaused() | WorkResumed() | LogArchived():
            pass  # their streams have no row
        case _:
            task_id = TaskId(event.stream.removeprefix("task:"))
            _apply_to_effects(draft, task_id, event)
            draft.tasks[task_id] = replace(_after(draft.tasks[task_id], event), version=event.version)


def _apply_to_effects(draft: _Draft, task_id: TaskId, event: Event) -> None:
    match event.fact:
        case EffectIntended(key=key, kind=kind, epoch=epoch, intent=intent):
            draft.effects[key] = Effect(
                key=key, task_id=task_id, kind=EffectKind(kind), epoch=epoch, intent=intent
            )  # fmt: skip
        case EffectRecorded(key=key, state=state, epoch=epoch, result=result):
            draft.effects[key] = replace(draft.effects[key], state=EffectState(state), epoch=epoch, result=result)
        case _:
            pass


def _created(event: Event, fact: TaskCreated) -> Task:
    assert event.correlation is not None, event
    return Task(
        id=fact.task_id,
        ref=IssueRef(forge=fact.forge, repository=fact.repository, number=fact.issue),
        kind=TaskKind(fact.kind),
        generation=fact.generation,
        state=TaskState.QUEUED,
        title=fact.title,
        digest=fact.digest,
        snapshot=fact.snapshot,
        correlation=event.correlation,
        created_at=event.at,
        asked_by=fact.asked_by,
        version=event.version,
        priority=fact.priority,
        capabilities=fact.capabilities,
    )


def _registered(fact: WorkerRegistered, *, at: datetime) -> WorkerRecord:
    return WorkerRecord(
        id=fact.worker,
        host=fact.host,
        pid=fact.pid,
        role=WorkerRole(fact.role),
        release=fact.release,
        capabilities=fact.capabilities,
        state=WorkerState.ONLINE,
        registered_at=at,
    )


def _after(task: Task, event: Event) -> Task:
    """The task after one more event of its stream; facts that only add knowledge change nothing but the version."""
    match event.fact:
        case TaskClaimed(worker=worker, epoch=epoch):
            assert epoch == task.epoch + 1, event
            return replace(advance(task, Trigger.CLAIM, at=event.at, worker=worker), epoch=epoch, run_after=None)
        case PhaseEntered(phase=phase):
            return replace(task, phase=phase)
        case TaskSettled():
            return settled(task, event.fact, at=event.at)
        case TaskReaped():
            return _reaped(task, event.fact, at=event.at)
        case TaskCancelled(reason=reason, notice=notice):
            ended = advance(task, Trigger.CANCEL, at=event.at)
            return replace(
                ended, run_after=None, outcome=Outcome.CANCELLED.value, reason=reason, notice=_notice(notice)
            )
        case TaskUnblocked(approved=approved):
            afresh = replace(task.counters, infra=0, interruptions=0)
            return replace(advance(task, Trigger.UNBLOCK, at=event.at), approved=approved, notice=None, counters=afresh)
        case NoticeSent(notice=notice):
            assert task.notice == notice, event
            return replace(task, notice=None)
        case ChangeDelivered(change=change):
            return replace(task, change=change)
        case _:
            return task


def settled(task: Task, fact: TaskSettled, *, at: datetime) -> Task:
    """The task once its attempt has ended so."""
    assert fact.epoch == task.epoch, fact
    ended = advance(task, Trigger(fact.trigger), at=at)
    if ended.state != fact.state:
        raise IllegalTransition(f"a settled task {task.id} is {fact.state}, but {fact.trigger} leads to {ended.state}")
    counters = Counters(
        attempts=fact.attempts, infra=fact.infra, interruptions=fact.interruptions, crashes=fact.crashes
    )  # fmt: skip
    return replace(
        ended,
        counters=counters,
        run_after=fact.run_after,
        outcome=fact.outcome,
        reason=fact.reason,
        notice=_notice(fact.notice),
    )


def _reaped(task: Task, fact: TaskReaped, *, at: datetime) -> Task:
    assert (fact.epoch, fact.worker) == (task.epoch, task.worker), fact
    ended = advance(task, Trigger(fact.trigger), at=at)
    if ended.state != fact.state:
        raise IllegalTransition(f"a reaped task {task.id} is {fact.state}, but {fact.trigger} leads to {ended.state}")
    return replace(
        ended,
        counters=replace(task.counters, infra=fact.infra, crashes=fact.crashes),
        run_after=fact.run_after,
        outcome=fact.outcome,
        reason=fact.reason,
        notice=_notice(fact.notice),
    )


def _notice(value: str | None) -> Notice | None:
    return None if value is None else Notice(value)
