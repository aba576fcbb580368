"""The fold: what events make of the tables, and which logs it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tamma.core.effect import EffectState
from tamma.core.errors import IllegalTransition
from tamma.core.event import (
    AgentSpoke,
    EffectIntended,
    EffectRecorded,
    Event,
    Fact,
    NoticeSent,
    PhaseEntered,
    TaskCancelled,
    TaskClaimed,
    TaskCreated,
    TaskDispatched,
    TaskReaped,
    TaskSettled,
    TaskUnblocked,
    WorkerRegistered,
    WorkerStateChanged,
    task_stream,
    worker_stream,
)
from tamma.core.fold import Tables, fold
from tamma.core.ids import BlobId, CorrelationId, Oid, TaskId, WorkerId
from tamma.core.task import Counters, Notice, TaskState
from tamma.core.worker import WorkerState

TASK, ANN, ORC = TaskId("t1"), WorkerId("ann"), WorkerId("orc")
START = datetime(2030, 1, 1, tzinfo=UTC)
CREATED = TaskCreated(
    task_id=TASK, forge="local", repository="demo", issue="1", kind="resolve", generation=1, title="T", digest="d",
    snapshot=BlobId("s"), priority=2, capabilities=("a",), asked_by="label",
)  # fmt: skip
CLAIMED = TaskClaimed(worker=ANN, epoch=1)
REGISTERED = WorkerRegistered(worker=ANN, host="h", pid=1, role="worker", release="1", capabilities=())


def settled(state: str, trigger: str, *, notice: str | None = None, run_after: datetime | None = None) -> TaskSettled:
    return TaskSettled(
        epoch=1, outcome="o", trigger=trigger, state=state, reason="r", attempts=1, infra=2, interruptions=3, crashes=4,
        exit_code=0, notice=notice, run_after=run_after,
    )  # fmt: skip


def reaped(state: str, *, epoch: int = 1) -> TaskReaped:
    return TaskReaped(
        epoch=epoch, worker=ANN, by=ORC, outcome="crashed", trigger="crash" if state == "retryable" else "exhaust", state=state,
        reason="r", infra=0, crashes=1, notice=None, run_after=None
    )  # fmt: skip


def log(*facts: Fact, stream: str = task_stream(TASK)) -> list[Event]:
    return [
        Event(
            position=n, stream=stream, version=n, at=START + timedelta(seconds=n), tags=(),
            correlation=CorrelationId("c"), fact=fact, type=fact.TYPE,
        )
        for n, fact in enumerate(facts, start=1)
    ]  # fmt: skip


def test_nothing_folds_to_nothing() -> None:
    """An empty log is empty tables."""
    assert fold([]) == Tables()


def test_a_task_is_what_its_stream_says() -> None:
    """From creation to delivery: epoch, phase, counters, notice, times, version."""
    facts = (CREATED, TaskDispatched(by=ORC), CLAIMED, PhaseEntered(epoch=1, phase="prepare"))
    running = fold(log(*facts)).tasks[TASK]
    assert (running.state, running.worker, running.epoch, running.phase) == (TaskState.RUNNING, ANN, 1, "prepare")
    done = fold(log(*facts, AgentSpoke(epoch=1, turn=1, text="x"), settled("succeeded", "succeed", notice="delivered")))
    task = done.tasks[TASK]
    assert (task.state, task.worker, task.phase) == (TaskState.SUCCEEDED, None, None)
    assert task.counters == Counters(attempts=1, infra=2, interruptions=3, crashes=4)
    assert (task.notice, task.version, done.versions) == (Notice.DELIVERED, 6, {task_stream(TASK): 6})
    assert (task.created_at, task.finished_at) == (START + timedelta(seconds=1), START + timedelta(seconds=6))


def test_a_prefix_can_be_folded_on() -> None:
    """fold(a + b) == fold(b, fold(a)), and the start is left as it was."""
    events = log(
        CREATED, CLAIMED, settled("blocked", "block", notice="asked"),
        TaskUnblocked(by="ann", approved=Oid("c")), TaskClaimed(worker=ANN, epoch=2), reaped("retryable", epoch=2),
        TaskCancelled(by="ann", reason="over", notice="cancelled"), NoticeSent(notice="cancelled", by=ORC),
    )  # fmt: skip
    whole = fold(events)
    for cut in range(len(events) + 1):
        start = fold(events[:cut])
        assert fold(events[cut:], start) == whole
        assert start == fold(events[:cut])
    task = whole.tasks[TASK]
    assert (task.state, task.approved, task.notice) == (TaskState.CANCELLED, "c", None)
    assert task.counters == Counters(attempts=1, crashes=1), "an unblock counts outages and interruptions afresh"


def test_effects_and_workers_are_folded() -> None:
    """An effect's last word and epoch; a worker's state."""
    intended = EffectIntended(key="k", kind="push", epoch=1, intent={"a": "b"})
    recorded = EffectRecorded(key="k", state="done", epoch=1, result={"c": "d"})
    effect = fold(log(CREATED, CLAIMED, intended, recorded)).effects["k"]
    assert (effect.task_id, effect.state, effect.result) == (TASK, EffectState.DONE, {"c": "d"})
    changed = WorkerStateChanged(worker=ANN, state="offline", reason="")
    assert fold(log(REGISTERED, changed, stream=worker_stream(ANN))).workers[ANN].state is WorkerState.OFFLINE


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ((CREATED, CLAIMED, TaskClaimed(worker=ORC, epoch=2)), IllegalTransition),
        ((CREATED, TaskUnblocked(by="ann", approved=None)), IllegalTransition),
        ((CREATED, CLAIMED, reaped("succeeded"), TaskCancelled(by="", reason="", notice=None)), IllegalTransition),
        ((CREATED, CLAIMED, reaped("running")), IllegalTransition),
        ((CREATED, CLAIMED, settled("failed", "succeed")), IllegalTransition),
        ((CREATED, TaskClaimed(worker=ANN, epoch=2)), AssertionError),
        ((CREATED, NoticeSent(notice="asked", by=ORC)), AssertionError),
        ((CLAIMED,), KeyError),
    ],
)
def test_a_log_that_cannot_be_is_refused(facts: tuple[Fact, ...], error: type[Exception]) -> None:
    """Moves that the state table lacks, skipped epochs, unknown tasks."""
    with pytest.raises(error):
        fold(log(*facts))


def test_a_hole_in_a_stream_is_refused() -> None:
    """Versions are dense from one."""
    first, _, third = log(CREATED, CLAIMED, settled("succeeded", "succeed"))
    with pytest.raises(AssertionError, match="version 3 follows 1"):
        fold([first, third])
