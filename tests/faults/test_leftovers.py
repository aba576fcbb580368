"""What tasks that are over left on the machine is removed; what somebody may still ask for stays."""

from __future__ import annotations

from pathlib import Path

from tamma.core.event import WorkSalvaged
from tests.faults.test_humans import APPROVE, PATIENT, asked
from tests.faults.world import (
    EDIT_AND_HANG,
    NO_WORKERS,
    SHORT_LEASE,
    ended,
    finish,
    finished,
    queue,
    reap,
    start_work,
    wait_for_event,
)
from tests.support.project import Project, git

AGENT = "AGENT.OUTPUT.RECEIVED"


def left(project: Project) -> list[Path]:
    """Checkouts of attempts."""
    return list((project.root / ".tamma" / "workspaces").glob("*/*"))


def kept(project: Project) -> str:
    """Refs that hold commits in the mirror."""
    [mirror] = (project.root / ".tamma" / "mirrors").glob("*.git")
    return git("for-each-ref", "refs/tamma/keep/", cwd=mirror)


def killed(project: Project, **env: str) -> None:
    """An attempt that is dead in the middle of its agent's work."""
    project.configure(steps=EDIT_AND_HANG)
    [task] = queue(project)
    child = start_work(project, task, **env)
    wait_for_event(project, AGENT)
    child.kill()
    ended(child)
    assert len(left(project)) == 1


def test_the_checkout_of_a_cancelled_task_goes_with_the_next_look(project: Project) -> None:
    """No attempt will come that would remove it; before that it stays, since an attempt may come."""
    killed(project, **PATIENT)
    finished(project.run("orchestrate", "--once", env=NO_WORKERS))
    assert len(left(project)) == 1
    finished(project.run("task", "cancel", project.task_id(), "--reason", "no more"))
    finished(project.run("orchestrate", "--once", env=NO_WORKERS))
    assert left(project) == []


def test_the_work_of_a_failed_task_is_kept_before_its_checkout_goes(project: Project) -> None:
    """Killed once too often: what the last attempt had is a patch."""
    limit = {"TAMMA_RETRY__CRASHES_MAX": "1"}
    project.env |= limit
    killed(project, **SHORT_LEASE)
    reap(project)
    assert project.state()[0] == "failed"
    finished(project.run("orchestrate", "--once", env=NO_WORKERS))
    assert left(project) == []
    assert any(isinstance(event.fact, WorkSalvaged) for event in project.events())
    assert "a + b" in finished(project.run("task", "patch", project.task_id())).out


def test_a_kept_commit_is_released_once_its_task_is_over(project: Project) -> None:
    """It waits in the mirror for a human, and not longer."""
    project.configure(APPROVE)
    [task] = queue(project)
    assert ended(start_work(project, task, **PATIENT)).code == 13
    finished(project.run("orchestrate", "--once", env=NO_WORKERS))
    assert asked(project) in kept(project)
    finished(project.run("task", "approve", task))
    finish(project)
    finished(project.run("orchestrate", "--once", env=NO_WORKERS))
    assert project.state() == ("succeeded", "delivered")
    assert kept(project) == ""
