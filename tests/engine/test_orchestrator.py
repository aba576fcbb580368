"""The loop with a real store and real children, and a forge in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tamma.adapters.postgres.store import PostgresStore
from tamma.adapters.system import SystemClock
from tamma.core.attempt import Outcome, judge
from tamma.core.errors import ConfigError, ExitCode, PermanentError, TransientError
from tamma.core.event import task_stream
from tamma.core.ids import IssueRef, WorkerId
from tamma.core.issue import Comment
from tamma.core.moment import local
from tamma.core.policy import RetryPolicy
from tamma.core.task import Notice, TaskState
from tamma.engine.orchestrator import Mode
from tamma.ports.workspace import Remote
from tests.contracts.memory_forge import MemoryForge
from tests.engine.loop_world import a_loop
from tests.support.project import wait_until


@pytest.mark.timeout(60)
def test_workers_that_cannot_start_do_not_keep_the_loop_for_ever(store: PostgresStore, tmp_path: Path) -> None:
    """Until idle means an end: after four early deaths on one task the operator is told, and the task is still queued."""
    forge = MemoryForge(name="local")
    forge.add_issue()
    loop = a_loop(store, forge, tmp_path, worker="raise SystemExit(3)")
    with pytest.raises(ConfigError) as told:
        loop.run(Mode.UNTIL_IDLE)
    assert "before they took it" in str(told.value)
    assert store.tasks.counts()[TaskState.QUEUED] == 1


def test_a_loop_with_nothing_to_do_is_idle_at_once(store: PostgresStore, tmp_path: Path) -> None:
    """And leaves no registration behind."""
    loop = a_loop(store, MemoryForge(name="local"), tmp_path, worker="raise SystemExit(3)")
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.DELIVERED
    assert [worker.state for worker in store.workers.list()] == ["gone"]


def test_a_bug_met_with_one_issue_stops_no_other(store: PostgresStore, tmp_path: Path) -> None:
    """An adapter that breaks on one comment is told once; the other issue is told about its task all the same."""
    forge = MemoryForge(name="local")
    refs = [forge.add_issue(), forge.add_issue()]
    loop = a_loop(store, forge, tmp_path, worker="raise SystemExit(3)")
    told: list[str] = []
    loop.report = told.append
    tasks = [loop.intake.find_or_create(ref, asked_by="label") for ref in refs]
    for task in tasks:
        store.tasks.cancel(task.id, by="ann", reason="enough", notice=Notice.CANCELLED)
    real = forge.comment

    def comment(ref: IssueRef, *, marker: str, body: str) -> Comment:
        if ref == refs[0]:
            raise ValueError("4300 digits")
        return real(ref, marker=marker, body=body)

    forge.comment = comment  # type: ignore[method-assign]
    loop.tick()
    loop.tick()
    assert [store.tasks.get(task.id).notice for task in tasks] == [Notice.CANCELLED, None]
    [line] = [line for line in told if "4300 digits" in line]
    assert line.startswith("tell failed: a bug in Tamma: ValueError: 4300 digits (at test_orchestrator.py:")


def test_an_issue_that_is_gone_needs_no_telling_and_keeps_nobody_busy(store: PostgresStore, tmp_path: Path) -> None:
    """Its notice is settled, once, and the loop is idle."""
    forge = MemoryForge(name="local")
    ref = forge.add_issue()
    loop = a_loop(store, forge, tmp_path, worker="raise SystemExit(3)")
    task = loop.intake.find_or_create(ref, asked_by="label")
    store.tasks.cancel(task.id, by="ann", reason="enough", notice=Notice.CANCELLED)
    forge.delete_issue(ref)
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.DELIVERED
    assert store.tasks.get(task.id).notice is None


def test_news_of_a_task_that_another_has_followed_are_not_told_any_more(store: PostgresStore, tmp_path: Path) -> None:
    """They would come after the news of the later one, and take off its labels."""
    forge = MemoryForge(name="local")
    ref = forge.add_issue()
    loop = a_loop(store, forge, tmp_path)
    first = loop.intake.find_or_create(ref, asked_by="label")
    store.tasks.cancel(first.id, by="ann", reason="enough", notice=Notice.CANCELLED)
    second = loop.intake.find_or_create(ref, asked_by="ann")
    assert second.generation == 2
    forge.change_labels(ref, add=["tamma:delivered"], remove=[])
    assert loop.herald.tell(store.tasks.get(first.id))
    assert store.tasks.get(first.id).notice is None
    assert "tamma:delivered" in forge.issue(ref).labels
    assert not forge.comments(ref)


@pytest.mark.timeout(60)
def test_an_issue_that_cannot_be_read_is_tried_again_later_and_floods_no_log(
    store: PostgresStore, tmp_path: Path
) -> None:
    """Until idle does not wait for it, and each try leaves no further intent."""
    forge = MemoryForge(name="local")
    ref = forge.add_issue()
    loop = a_loop(store, forge, tmp_path, worker="raise SystemExit(3)")
    task = loop.intake.find_or_create(ref, asked_by="label")
    store.tasks.cancel(task.id, by="ann", reason="enough", notice=Notice.CANCELLED)
    forge.break_issue(ref, why="garbled")
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.DELIVERED
    before = len(store.events.stream(task_stream(task.id)))
    with pytest.raises(PermanentError):
        loop.herald.tell(store.tasks.get(task.id))
    assert len(store.events.stream(task_stream(task.id))) == before
    assert store.tasks.get(task.id).notice is Notice.CANCELLED


@dataclass(slots=True)
class HandClock(SystemClock):
    """Goes on only when told."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("apart", "ends_with"), [(0.0, ExitCode.DELIVERED), (1.5, ExitCode.SIGTERM)])
def test_signals_at_once_are_one_wish(store: PostgresStore, tmp_path: Path, apart: float, ends_with: ExitCode) -> None:
    """Ten SIGTERMs in a burst drain, as one does; ten with time between them abort."""
    loop = a_loop(store, MemoryForge(name="local"), tmp_path, worker="raise SystemExit(3)")
    clock = HandClock()
    loop.clock = clock
    for _ in range(10):
        loop.signal(ExitCode.SIGTERM)
        clock.now += apart
    assert loop.run(Mode.FOREVER) is ends_with


def test_a_reused_pid_is_somebody_else(store: PostgresStore, tmp_path: Path) -> None:
    """A child that ended says nothing about the worker that had its pid before, and holds a task to this day."""
    forge = MemoryForge(name="local")
    loop = a_loop(store, forge, tmp_path, worker="raise SystemExit(1)")
    task = loop.intake.find_or_create(forge.add_issue(), asked_by="ann")
    pid = loop.dispatcher.start(task.id)
    store.claims.claim(task.id, worker=WorkerId(f"here:{pid}:earlier"), duration=timedelta(minutes=1))
    assert loop.dispatcher.wait(timedelta(seconds=10))
    loop.tick()
    assert store.tasks.get(task.id).state is TaskState.RUNNING


def test_a_busy_loop_gives_signs_of_life(store: PostgresStore, tmp_path: Path) -> None:
    """A forge that takes longer than three beats to answer makes nobody believe that the loop is dead."""
    forge = MemoryForge(name="local")
    loop = a_loop(store, forge, tmp_path, beat=timedelta(milliseconds=20))
    real = forge.count_open_changes

    def count_open_changes(repository: str) -> int:
        beats = set[object]()

        def are_beats() -> bool:
            beats.add(store.workers.list()[0].last_beat_at)
            return len(beats) > 3

        wait_until(are_beats, seconds=5, what="three beats")
        return real(repository)

    forge.count_open_changes = count_open_changes  # type: ignore[method-assign]
    told: list[str] = []
    loop.report = told.append
    assert loop.run(Mode.ONCE) is ExitCode.DELIVERED
    assert told == []


DEAF = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("deaf").touch()
time.sleep(600)
"""


def test_a_worker_that_cannot_be_killed_does_not_hold_the_loop(store: PostgresStore, tmp_path: Path) -> None:
    """The code is that of the signal, and who can be buried is."""
    forge = MemoryForge(name="local")
    forge.add_issue()
    loop = a_loop(store, forge, tmp_path, worker=DEAF)
    loop.drain_limit = loop.stop_limit = timedelta(milliseconds=100)
    loop.tick()
    wait_until((tmp_path / "deaf").exists)
    kill, told = loop.dispatcher.kill, list[str]()

    def kill_and_complain() -> None:
        kill()
        raise TransientError("worker 1 does not die", why="it waits for a disk")

    loop.dispatcher.kill = kill_and_complain  # type: ignore[method-assign]
    loop.report = told.append
    loop.signal(ExitCode.SIGINT)
    assert loop.run(Mode.FOREVER) is ExitCode.SIGINT
    assert "not every worker could be killed" in told[-1] + told[-2]


@pytest.mark.parametrize(
    "worker", ["import os; os.kill(os.getpid(), 9)", "import os; os.abort()"], ids=["killed", "aborted"]
)
@pytest.mark.timeout(60)
def test_waiting_until_idle_ends_though_every_worker_dies_of_a_signal(
    store: PostgresStore, tmp_path: Path, worker: str
) -> None:
    """As one that fails to start: the task would be started for ever."""
    forge = MemoryForge(name="local")
    forge.add_issue()
    with pytest.raises(ConfigError, match="ended before they took it"):
        a_loop(store, forge, tmp_path, worker=worker).run(Mode.UNTIL_IDLE)


def test_a_worker_that_does_not_stop_is_killed(store: PostgresStore, tmp_path: Path) -> None:
    """A drain has an end; and whoever pressed Ctrl-C is told at once what it waits for."""
    forge = MemoryForge(name="local")
    forge.add_issue()
    loop = a_loop(store, forge, tmp_path, worker=DEAF)
    loop.drain_limit = loop.stop_limit = timedelta(milliseconds=100)
    told: list[str] = []
    loop.report = told.append
    loop.tick()
    wait_until((tmp_path / "deaf").exists)
    loop.signal(ExitCode.SIGINT)
    assert loop.run(Mode.FOREVER) is ExitCode.SIGINT
    assert told[:2] == [
        "draining: 1 worker running, press Ctrl-C again to stop them",
        "1 worker did not stop within 0.1 s: killed",
    ]


def test_waiting_until_idle_tells_once_when_the_retry_is_due(store: PostgresStore, tmp_path: Path) -> None:
    """However often it looks meanwhile: who started it sees that it waits, and for what."""
    forge = MemoryForge(name="local")
    loop = a_loop(store, forge, tmp_path)
    task = loop.intake.find_or_create(forge.add_issue(), asked_by="label")
    claim = store.claims.claim(task.id, worker=WorkerId("there:1:boot"), duration=timedelta(minutes=1))
    hour = RetryPolicy(backoff_base=timedelta(hours=1), backoff_max=timedelta(hours=1))
    waiting = store.claims.settle(claim, judge(Outcome.AGENT_FAILED, claim.task.counters, hour, chance=0), reason="why")
    assert waiting.run_after is not None
    told, looks, found = list[str](), list[int](), forge.repositories()

    def look() -> Sequence[Remote]:
        looks.append(1)
        if len(looks) == 5:
            loop.signal(ExitCode.SIGTERM)
        return found

    loop.report, forge.repositories = told.append, look  # type: ignore[method-assign]
    loop.run(Mode.UNTIL_IDLE)
    assert told == [f"waiting for a retry: the next is due at {local(waiting.run_after)}"]
