"""kill -9 of a worker, at every boundary: another attempt finishes it, and the forge shows one delivery.

A run takes every second boundary, the next one the others; ``TAMMA_TEST_WHOLE=1`` takes all.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tamma.core.event import AgentStarted
from tamma.engine.failpoints import FAIL_POINTS
from tests.faults.world import (
    EDIT,
    EDIT_AND_HANG,
    SHORT_LEASE,
    assert_delivered_once,
    ended,
    epochs,
    finish,
    queue,
    start_work,
    wait_for_event,
)
from tests.support.project import GATE, Project, pids_with, wait_until
from tests.support.sample import sample

# Hangs on the changed tree only, and only until somebody says go.
SLOW_GATE = """
[[gates]]
name = "slow"
argv = ["sh", "-c", "grep -q 'a - b' calc.py || [ -e {mark}.go ] || {{ touch {mark}; sleep 600; }}"]
"""
PROUD_GATE = """
[[gates]]
name = "proud"
argv = ["sh", "-c", "! grep 'not yet' calc.py"]
"""
NEEDS_REPAIR = {
    "turn0": '{ append = "calc.py", text = "# not yet" }',
    "turn1": f'{EDIT}, {{ replace = "calc.py", old = "# not yet", new = "" }}',
}
FIRST_HANGS = (
    f'[[play]]\nissue = "*"\nattempt = 1\nsteps = [{EDIT_AND_HANG}]\n[[play]]\nissue = "*"\nsteps = [{EDIT}]\n'
)
CHOSEN = frozenset(sample(sorted(FAIL_POINTS), one_in=2))
THEMES = (
    ("claim", "prepare"), ("baseline", "audit"), ("implement", "agent"), ("gates", "publish"), ("repair", "settle"), ("push",),
    ("change",), ("comment",), ("labels",),
)  # fmt: skip


def test_every_fail_point_has_a_case() -> None:
    """No boundary is left out of what follows."""
    assert {name.partition(".")[0] for name in FAIL_POINTS} == {theme for themes in THEMES for theme in themes}


@pytest.mark.parametrize("themes", THEMES, ids="-".join)
def test_killed_at_a_boundary(project: Project, themes: tuple[str, ...]) -> None:
    """Whatever boundary it dies at, the next attempt delivers: one branch, one change, no comment twice."""
    names = dict(enumerate(sorted(n for n in CHOSEN if n.partition(".")[0] in themes), 1))
    for number in names:
        project.issue(str(number))
    turns = 1
    if "repair" in themes:
        turns = 2
        project.configure(PROUD_GATE, steps=None)
        project.script(**NEEDS_REPAIR)
    tasks = queue(project, [str(number) for number in names])
    victims = [start_work(project, task, f"{name}=kill") for task, name in zip(tasks, names.values(), strict=True)]
    for name, victim in zip(names.values(), victims, strict=True):
        assert ended(victim).code == -signal.SIGKILL, name
    finish(project)
    assert_delivered_once(project, *map(str, names))
    for task, name in zip(tasks, names.values(), strict=True):
        is_settled = name == "settle.after_effect" or name.startswith(("comment.", "labels."))
        assert epochs(project.events(task)) == ([1] if is_settled else [1, 2]), name
        is_pushed = name in {"push.after_effect", "push.after_record"} or name.startswith(("change.", "settle."))
        if is_pushed:  # what the dead attempt brought outside is taken over, not made anew
            assert len([e for e in project.events(task) if isinstance(e.fact, AgentStarted)]) == turns, name


def test_killed_while_its_agent_works(project: Project) -> None:
    """The agent of a killed worker is ended, its edits are kept as a patch, and the next attempt delivers."""
    project.script(FIRST_HANGS)
    [task] = queue(project)
    victim = start_work(project, task)
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    victim.kill()
    assert ended(victim).code == -signal.SIGKILL
    wait_until(lambda: not pids_with(f"{task}:1:"), what="the end of the agent")
    finish(project)
    assert_delivered_once(project, "1")
    assert "ATTEMPT.WORK.SALVAGED" in project.types()
    assert "a + b" in project.run("task", "patch", task).out


def test_killed_while_a_gate_runs(project: Project) -> None:
    """The gate of a killed worker is ended, and the next attempt asks its gates anew."""
    [task] = queue(project)
    marker = project.root / "gate-runs"
    project.configure(GATE + SLOW_GATE.format(mark=marker))
    victim = start_work(project, task)
    wait_until(marker.exists, what="the gate")
    victim.kill()
    assert ended(victim).code == -signal.SIGKILL
    wait_until(lambda: not pids_with(f"{task}:1:"), what="the end of the gate")
    Path(f"{marker}.go").touch()
    finish(project)
    assert_delivered_once(project, "1")
    assert epochs(project.events()) == [1, 2]


def test_a_killed_child_is_reaped_by_its_parent(project: Project) -> None:
    """The loop that started a worker need not wait for the lease: it saw the worker die."""
    project.script(FIRST_HANGS)
    loop = project.start("orchestrate", "--until-idle")
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    [(pid,)] = project.rows("SELECT pid FROM worker WHERE id = (SELECT worker FROM task)")
    os.kill(pid, signal.SIGKILL)
    assert ended(loop).code == 0
    assert_delivered_once(project, "1")


def test_a_task_whose_worker_died_is_taken_by_the_next_without_a_loop(project: Project) -> None:
    """In CI there may be none: who comes after its lease ends the dead attempt, as a crash, and begins its own."""
    killed = project.run("work", "--issue", "1", env={**SHORT_LEASE, "TAMMA_FAILPOINTS": "agent.before_run=kill"})
    assert killed.code == -signal.SIGKILL
    held = project.run("work", "--issue", "1")
    assert held.code in {0, 4}, held.err
    over = "SELECT lease_expires_at < clock_timestamp() OR state <> 'running' FROM task"
    wait_until(lambda: project.rows(over) == [(True,)], what="the end of the lease")
    if held.code == 4:
        assert "its lease is over" in project.run("explain", "1").out
    assert project.run("work", "--issue", "1", "--ok-codes", "4").code == 0
    assert_delivered_once(project, "1")
    assert epochs(project.events()) == [1, 2]
    assert project.rows("SELECT crashes FROM task") == [(1,)]
