"""The loop dies, comes back, and shares its database: no issue is lost, none is done twice."""

from __future__ import annotations

import shutil
import signal
from collections import Counter

import pytest

from tamma.core.event import Event, TaskClaimed, TaskDispatched, TaskSettled
from tamma.core.ids import TaskId
from tests.faults.world import (
    SHORT_LEASE,
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

ISSUES = 14


def test_workers_survive_a_killed_loop_and_are_not_dispatched_again(project: Project) -> None:
    """kill -9 of the loop while workers run: they finish, and the next loop dispatches only what is left."""
    go = hold_agents(project)
    for number in ("2", "3"):
        project.issue(number)
    loop = project.start("orchestrate", "--workers", "2")
    wait_until(lambda: len(running(project)) == 2, what="two running tasks")
    wait_for_event(project, "AGENT.RUN.STARTED", running(project)[0])
    loop.kill()
    assert ended(loop).code == -signal.SIGKILL
    again = project.start("orchestrate", "--until-idle", "--workers", "2")
    wait_until(lambda: is_online_loop(project, again.pid), what="the second loop")
    go.touch()
    assert ended(again).code == 0
    assert_delivered_once(project, "1", "2", "3")
    for number in ("1", "2", "3"):
        events = project.events(project.task_id(number))
        assert epochs(events) == [1], number
        assert len(dispatches(events)) == 1, number


def test_people_get_no_more_changes_than_they_asked_for(project: Project) -> None:
    """Tasks under way count as the changes that they will open, over any number of ticks; a blocked one waits for people."""
    project.env |= {"TAMMA_LIMITS__OPEN_CHANGES_PER_REPOSITORY_MAX": "2"}
    for number in ("2", "3", "4", "5"):
        project.issue(number)
    queue(project, ("1", "2"))
    finish(project)
    assert len(project.changes()) == 2
    assert project.rows("SELECT count(*) FROM task") == [(2,)]
    assert "2 changes are open or under way" in project.run("explain", "demo#3").out
    shutil.rmtree(project.root / "forge" / "demo" / "changes")
    finish(project)
    assert project.rows("SELECT count(*) FROM task") == [(4,)]


def test_a_loop_killed_between_reservation_and_worker_costs_only_time(project: Project) -> None:
    """A reservation whose worker never came runs out, and another loop dispatches the task."""
    [task] = queue(project)
    until = "dispatch_until = tamma_now() + interval '1 second'"
    assert project.rows(f"UPDATE task SET dispatched_by = 'host:1:00', {until} WHERE id = %s RETURNING 1", task)
    finish(project)
    assert_delivered_once(project, "1")


@pytest.mark.parametrize("place", ["comment.after_effect", "labels.before_effect"])
def test_a_loop_killed_while_it_tells_an_issue(project: Project, place: str) -> None:
    """Another loop finds what was told, and tells only the rest."""
    [task] = queue(project)
    assert ended(start_work(project, task, "settle.after_effect=kill")).code == -signal.SIGKILL
    teller = project.start("orchestrate", "--until-idle", env={**SHORT_LEASE, "TAMMA_FAILPOINTS": f"{place}=kill"})
    assert ended(teller).code == -signal.SIGKILL
    finish(project)
    assert_delivered_once(project, "1")


def test_two_loops_share_the_work(project: Project) -> None:
    """Fourteen issues, two loops: fourteen changes, each loop dispatches at least four, limits hold over both."""
    numbers = [str(n) for n in range(1, ISSUES + 1)]
    for number in numbers:
        project.issue(number)
    project.configure('\n[change]\nred_green = "off"\n', quick=QUICK_THREE)
    loops = [project.start("orchestrate", "--until-idle", "--workers", "2") for _ in range(2)]
    for loop in loops:
        finished(ended(loop, seconds=120))
    assert_delivered_once(project, *numbers)
    streams = [project.events(project.task_id(number)) for number in numbers]
    by = Counter(fact.by for events in streams for fact in dispatches(events))
    assert len(by) == 2, by
    assert min(by.values()) >= 4, by
    assert sum(by.values()) == ISSUES, by
    assert all(epochs(events) == [1] for events in streams)
    assert most_at_once(streams) <= 3


QUICK_THREE = """
[limits]
tick_seconds = 0.2
running_max = 3
"""


def running(project: Project) -> list[TaskId]:
    """Ids of tasks that an attempt holds."""
    return [
        TaskId(row[0])
        for row in project.rows("SELECT id FROM task WHERE state = 'running' AND phase = 'implement' ORDER BY id")
    ]


def is_online_loop(project: Project, pid: int) -> bool:
    """Whether this loop has registered."""
    return bool(project.rows("SELECT 1 FROM worker WHERE pid = %s AND role = 'orchestrator'", pid))


def dispatches(events: list[Event]) -> list[TaskDispatched]:
    """Who dispatched a task."""
    return [event.fact for event in events if isinstance(event.fact, TaskDispatched)]


def most_at_once(streams: list[list[Event]]) -> int:
    """How many attempts ran at the same time, by the log."""
    steps = sorted(
        (event.at, isinstance(event.fact, TaskClaimed))
        for events in streams
        for event in events
        if isinstance(event.fact, TaskClaimed | TaskSettled)
    )
    now = most = 0
    for _, is_begin in steps:
        now += 1 if is_begin else -1
        most = max(most, now)
    return most


def test_workers_that_died_are_not_online_any_more(project: Project) -> None:
    """Their loop saw them end, and says so before their beats are missed."""
    kill = {"TAMMA_FAILPOINTS": "agent.before_run=kill"}
    assert project.run("orchestrate", "--until-idle", "--workers", "1", env=kill).code == 0
    assert project.state() == ("failed", "crashed")
    assert project.rows("SELECT DISTINCT state FROM worker WHERE role = 'worker'") == [("gone",)]
