"""The clock of a worker or of a loop is wrong, or jumps while it works: leases, back-off and events keep the database's time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from tamma.core.event import TaskSettled
from tests.faults.world import (
    NO_WORKERS,
    assert_delivered_once,
    ended,
    epochs,
    finish,
    finished,
    hold_agents,
    queue,
    start_work,
    wait_for_event,
)
from tests.support.project import Project, wait_until
from tests.support.sample import sample
from tests.support.shifted_clock import ShiftedClock

HOUR: Final = 3_600.0
YEAR: Final = 31_536_000.0
# Each run has a jump ahead and one back, in the middle and from the start.
RUNS: Final = (
    ((HOUR, "meanwhile"), (-YEAR, "meanwhile"), (YEAR, "before"), (-HOUR, "before")),
    ((YEAR, "meanwhile"), (-HOUR, "meanwhile"), (HOUR, "before"), (-YEAR, "before")),
)
CASES: Final = [case for run in sample(RUNS, one_in=2) for case in run]
LEASE: Final = {"TAMMA_LEASE__DURATION_SECONDS": "8", "TAMMA_LEASE__BEAT_SECONDS": "1"}


def test_a_worker_whose_clock_is_wrong_keeps_its_lease(project: Project) -> None:
    """An hour or a year, to and fro, from the start or in the middle: one attempt, renewed in time, and told at its real time."""
    go = hold_agents(project)
    numbers = [str(n) for n, _ in enumerate(CASES, 1)]
    for number in numbers:
        project.issue(number)
    tasks = queue(project, numbers)
    begun = database_time(project)
    clocks = [ShiftedClock(folder=project.root / f"clock-{number}") for number in numbers]
    for clock, (shift, moment) in zip(clocks, CASES, strict=True):
        clock.jump(shift if moment == "before" else 0)
    workers = [start_work(project, task, **LEASE, **clock.env) for task, clock in zip(tasks, clocks, strict=True)]
    for task in tasks:
        wait_for_event(project, "AGENT.OUTPUT.RECEIVED", task)
    for clock, (shift, _) in zip(clocks, CASES, strict=True):
        clock.jump(shift)
    outlive_the_first_lease(project)
    astray = ShiftedClock(folder=project.root / "clock-loop")
    astray.jump(YEAR)
    finished(project.run("orchestrate", "--once", env={**NO_WORKERS, **astray.env}))
    go.touch()
    for worker, case in zip(workers, CASES, strict=True):
        done = ended(worker, seconds=60)
        assert done.code == 0, (case, done.err, done.out)
    assert_delivered_once(project, *numbers)
    over = database_time(project)
    for task, case in zip(tasks, CASES, strict=True):
        times = [event.at for event in project.events(task)]
        assert epochs(project.events(task)) == [1], case
        assert times == sorted(times), case
        assert all(at <= over for at in times), case
        assert begun <= times[-1], case


def test_a_back_off_is_the_databases(project: Project) -> None:
    """Whatever day the worker believes it is: its task is due when the policy says, and a loop with yet another day takes it then."""
    [task] = queue(project)
    behind = ShiftedClock(folder=project.root / "behind")
    behind.jump(-YEAR)
    env = {
        "TAMMA_LEASE__DURATION_SECONDS": "20",
        "TAMMA_RETRY__BACKOFF_BASE_SECONDS": "2",
        "TAMMA_RETRY__BACKOFF_MAX_SECONDS": "2",
    }
    done = ended(start_work(project, task, "forge.changes.before=away", **env, **behind.env))
    assert done.code == 75, (done.err, done.out)
    [settled] = [event for event in project.events(task) if isinstance(event.fact, TaskSettled)]
    [(due,)] = project.rows("SELECT run_after FROM task")
    assert timedelta(seconds=1) <= due - settled.at <= timedelta(seconds=2)
    ahead = ShiftedClock(folder=project.root / "ahead")
    ahead.jump(YEAR)
    project.env.update(ahead.env)
    finish(project)
    assert_delivered_once(project, "1")
    claimed = [event.at for event in project.events(task) if event.type == "TASK.CLAIM.SUCCEEDED"]
    assert claimed[1] >= due
    assert claimed[1] - due < timedelta(minutes=1)


def database_time(project: Project) -> datetime:
    """Now."""
    [(now,)] = project.rows("SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


def outlive_the_first_lease(project: Project) -> None:
    """Until those who are at work would have lost their leases without a renewal."""
    [(longest,)] = project.rows("SELECT max(lease_expires_at) FROM task")
    wait_until(lambda: database_time(project) > longest, what="the end of the first leases")
