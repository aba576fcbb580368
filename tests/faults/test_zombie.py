"""A worker that slept through its lease: another finished its task meanwhile, and it leaves no trace any more."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tamma.core.event import Event, TaskClaimed, encode
from tamma.core.ids import TaskId
from tamma.engine.failpoints import FAIL_POINTS
from tests.faults.test_matrix import with_repairs
from tests.faults.world import (
    EDIT,
    assert_delivered_once,
    epochs,
    finish,
    queue,
    reap,
    start_work,
    wait_until_stopped,
    wake,
)
from tests.support.project import Done, Project, wait_until
from tests.support.sample import sample

# Once the attempt has ended nobody takes its task from it any more: others tell the issue, and the sleeper ends in peace.
IN_PEACE: Final = frozenset(
    place for place in FAIL_POINTS if place.startswith(("comment.", "labels.")) or place == "settle.after_effect"
)
PLACES: Final = sample(sorted(FAIL_POINTS), one_in=4)
PART: Final = 5


@pytest.mark.parametrize("places", [PLACES[n : n + PART] for n in range(0, len(PLACES), PART)], ids="-".join)
def test_a_zombie_leaves_no_trace(project: Project, places: Sequence[str]) -> None:
    """Stopped, overtaken and continued, it ends with 20; no reference, comment or event is of its making."""
    numbers = with_repairs(project, len(places))
    tasks = queue(project, numbers)
    zombies = [start_work(project, task, f"{place}=stop@1") for task, place in zip(tasks, places, strict=True)]
    for zombie in zombies:
        wait_until_stopped(zombie)
    finish(project)
    assert_delivered_once(project, *numbers)
    before = all_that_shows(project, numbers)
    for task, zombie, place in zip(tasks, zombies, places, strict=True):
        done = wake(zombie)
        assert done.code == (0 if place in IN_PEACE else 20), (place, done.err, done.out)
        assert "Traceback" not in done.err, place
        if place not in IN_PEACE:
            assert "lease" in done.err, place
            assert_no_word_after_takeover(project.events(task))
    assert all_that_shows(project, numbers) == before


@pytest.mark.parametrize("place", ["comment.before_effect", "labels.before_effect"])
def test_a_zombie_that_was_telling_an_issue_undoes_nothing(project: Project, place: str) -> None:
    """Another told it, and a human asked again: the label that he put on stays on."""
    [task] = queue(project)
    zombie = start_work(project, task, f"{place}=stop")
    wait_until_stopped(zombie)
    finish(project)
    assert_delivered_once(project, "1")
    project.issue(labels=["tamma", "again"])
    text = project.issue_text()
    done = wake(zombie)
    assert done.code == 0, (done.err, done.out)
    assert project.issue_text() == text


@pytest.mark.parametrize(("place", "branches"), [("push.before_effect", []), ("change.before_effect", ["tamma/1"])])
def test_a_worker_whose_task_was_cancelled_in_its_sleep_shows_nothing_more(
    project: Project, place: str, branches: list[str]
) -> None:
    """No other attempt stands in its way at the forge: it asks for its lease right before each effect, and ends with 4."""
    [task] = queue(project)
    sleeper = start_work(project, task, f"{place}=stop", TAMMA_LEASE__DURATION_SECONDS="60")
    wait_until_stopped(sleeper)
    assert project.run("task", "cancel", task).code == 0
    done = wake(sleeper)
    assert done.code == 4, (done.err, done.out)
    assert list(project.branches()) == branches
    assert project.changes() == []
    assert "CHANGE.PUBLISH.SUCCEEDED" not in project.types()


def all_that_shows(project: Project, numbers: list[str]) -> tuple[object, ...]:
    """References, issues, changes, and the streams of the tasks."""
    issues = [project.issue_text(number) for number in numbers]
    return project.refs(), issues, project.changes(), [project.events(project.task_id(number)) for number in numbers]


def test_a_zombie_in_the_middle_of_its_push_is_refused_by_the_forge(project: Project) -> None:
    """It proved its lease and started git; by the time git speaks to the forge another commit is there, and stays."""
    [task] = queue(project)
    zombie = stopped_in_push(project, task)
    project.script(f'[[play]]\nissue = "*"\nsteps = [{EDIT}, {{ write = "NEWS", text = "another commit" }}]\n')
    finish(project)
    before = all_that_shows(project, ["1"])

    done = wake_with_git(zombie)

    assert done.code == 20, (done.err, done.out)
    assert_delivered_once(project, "1")
    assert all_that_shows(project, ["1"]) == before
    assert project.show("NEWS") == "another commit"


def test_a_push_that_arrives_late_is_taken_over(project: Project) -> None:
    """The push of a dead attempt lands between the next one's look and its own push: ours, not a stranger's."""
    [task] = queue(project)
    zombie = stopped_in_push(project, task)
    project.script(f'[[play]]\nissue = "*"\nsteps = [{EDIT}, {{ write = "NEWS", text = "another commit" }}]\n')
    reap(project)
    second = project.start("work", "--task-id", task, env={"TAMMA_FAILPOINTS": "push.before_effect=stop"})
    wait_until_stopped(second)
    kill_but_not_git(zombie)
    wait_until(lambda: list(project.branches()) == ["tamma/1"], what="the late push")
    done = wake(second)
    assert done.code == 75, (done.err, done.out)
    finish(project)
    assert_delivered_once(project, "1")
    assert epochs(project.events()) == [1, 2, 3]


def stopped_in_push(project: Project, task: TaskId) -> subprocess.Popen[str]:
    """An attempt that has started git for its push; both are stopped."""
    shim = project.root / "bin" / "git"
    shim.parent.mkdir()
    real = shutil.which("git")
    shim.write_text(f'#!/bin/sh\ncase " $* " in *" push "*) kill -STOP $PPID; kill -STOP $$;; esac\nexec {real} "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    zombie = start_work(project, task, PATH=f"{shim.parent}:{project.environ()['PATH']}")
    wait_until_stopped(zombie)
    return zombie


def wake_with_git(zombie: subprocess.Popen[str]) -> Done:
    """Continue both, and see how it ends."""
    for child in children(zombie):
        os.kill(child, signal.SIGCONT)
    return wake(zombie)


def kill_but_not_git(zombie: subprocess.Popen[str]) -> None:
    """The worker dies at once; its git, on its way to the forge, goes on by itself."""
    ours = children(zombie)
    zombie.kill()
    zombie.communicate()
    for child in ours:
        os.kill(child, signal.SIGCONT)


def children(parent: subprocess.Popen[str]) -> list[int]:
    """Their pids."""
    return [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]


def assert_no_word_after_takeover(events: list[Event]) -> None:
    """Once the second attempt was claimed, every fact of an attempt is its own."""
    claims = [n for n, event in enumerate(events) if isinstance(event.fact, TaskClaimed)]
    assert len(claims) == 2, events
    spoken = {encode(event.fact).get("epoch", 2) for event in events[claims[1] :]}
    assert spoken == {2}, events
