"""The forge answers 503, 429 or nonsense, hangs, or fails after it did what it was asked: each thing is there once in the end.

A run takes a sample of calls and answers; ``TAMMA_TEST_WHOLE=1`` takes each call with every answer, before its effect and after.
"""

from __future__ import annotations

import shutil
import stat
from datetime import timedelta
from typing import Final

import pytest

from tamma.adapters.forges.around import FORGE_POINTS
from tamma.core.event import TaskSettled
from tests.faults.world import NO_WORKERS, assert_delivered_once, ended, epochs, finish, finished, queue, start_work
from tests.support.project import Project, wait_until
from tests.support.sample import sample

ANSWERS: Final = ("away", "garbage", "busy:1", "hang:8", "raise")
BEFORE_THE_END: Final = ("changes", "issue", "open_change")
AFTER_IT: Final = ("comment", "change_labels")
CALLS: Final = (*BEFORE_THE_END, *AFTER_IT)
CASES: Final = tuple(
    (call, moment, answer) for answer in ANSWERS for call in CALLS for moment in ("before", "after")
)  # fmt: skip
PART: Final = 10
# Also how long a notice is held by who began to tell it: the loop tells it anew once that is over.
LEASE: Final = {"TAMMA_LEASE__DURATION_SECONDS": "6", "TAMMA_LEASE__BEAT_SECONDS": "1"}
CHOSEN: Final = sample(CASES, one_in=25)
PUSHES: Final = {
    "away": "echo 'fatal: unable to access: The requested URL returned error: 503' >&2; exit 128",
    "busy": "echo 'error: RPC failed; HTTP 429 curl 22' >&2; exit 1",
    "garbage": "echo '<html>Sign in</html>'; exit 0",
    "done-away": '"{git}" "$@" >&2; echo "fatal: the remote end hung up unexpectedly" >&2; exit 128',
    "done-garbage": '"{git}" "$@" >/dev/null 2>&1; echo "<html>Bad gateway</html>"; exit 0',
}
CHOSEN_PUSHES: Final = sample(list(PUSHES), one_in=2)


@pytest.mark.parametrize("part", [CHOSEN[n : n + PART] for n in range(0, len(CHOSEN), PART)])
def test_whatever_the_forge_answers_a_worker(project: Project, part: list[tuple[str, str, str]]) -> None:
    """It ends as temporary (a call that hangs for longer than the lease included), and another delivers: once."""
    numbers = [str(n) for n, _ in enumerate(part, 1)]
    for number in numbers:
        project.issue(number)
    tasks = queue(project, numbers)
    workers = [
        start_work(project, task, f"forge.{call}.{moment}={answer}", TAMMA_LEASE__DURATION_SECONDS=lease_of(answer))
        for task, (call, moment, answer) in zip(tasks, part, strict=True)
    ]
    for worker, (call, moment, answer) in zip(workers, part, strict=True):
        done = ended(worker, seconds=90)
        expected = {0} if call in AFTER_IT else {75}
        assert done.code in ({0, 1} if answer == "raise" else expected), (call, moment, answer, done.err, done.out)
        assert "Traceback" not in done.err, (call, moment, answer, done.err)
    finish(project)
    assert_delivered_once(project, *numbers)
    assert project.rows("SELECT attempts FROM task WHERE attempts > 0") == []


def lease_of(answer: str) -> str:
    """Shorter than a call that hangs; otherwise long enough for a busy machine."""
    return "6" if answer.startswith("hang") else "20"


def test_an_answer_lost_once_costs_no_run_of_the_agent(project: Project) -> None:
    """Before the agent, and after all its work: the same attempt asks again, and delivers."""
    [task] = queue(project)
    lost = "forge.changes.before=away@1,forge.issue.before=garbage@1,forge.issue.after=busy:1@1"
    done = ended(start_work(project, task, lost, TAMMA_LEASE__DURATION_SECONDS="20"))
    assert done.code == 0, (done.err, done.out)
    assert_delivered_once(project, "1")
    assert epochs(project.events(task)) == [1]


def test_a_loop_outlives_every_answer(project: Project) -> None:
    """503, nonsense and a bug while it looks, a failure after the effect while an issue is told: it delivers all the same."""
    project.issue("2")
    answers = {
        "forge.open_issues.before": "away@1",
        "forge.open_issues.after": "garbage@2",
        "forge.count_open_changes.before": "raise@1",
        "forge.count_open_changes.after": "hang:0.2@2",
        "forge.comment.after": "away@1",
        "forge.change_labels.after": "busy:0.3@1",
    }
    assert answers.keys() <= FORGE_POINTS
    spec = ",".join(f"{place}={answer}" for place, answer in answers.items())
    loop = project.start("orchestrate", env={"TAMMA_FAILPOINTS": spec, **LEASE})
    wait_until(lambda: is_told(project), what="the last word to both issues")
    loop.terminate()
    done = finished(ended(loop))
    for said in ("503", "not JSON", "a fail point was reached"):
        assert said in done.out + done.err, said
    assert_delivered_once(project, "1", "2")


def is_told(project: Project) -> bool:
    """Both tasks have ended and their issues know."""
    return project.rows("SELECT count(*) FROM task WHERE state = 'succeeded' AND notice IS NULL") == [(2,)]


def test_a_worker_that_was_told_to_come_later_is_not_tried_before(project: Project) -> None:
    """429 with Retry-After: the task is due then, no attempt is charged, and the worker says so."""
    [task] = queue(project)
    done = ended(start_work(project, task, "forge.issue.before=busy:3600", TAMMA_LEASE__DURATION_SECONDS="20"))
    assert done.code == 75, (done.err, done.out)
    assert "Retry-After: 3600" in done.err
    [(run_after, attempts, infra)] = project.rows("SELECT run_after, attempts, infra FROM task")
    assert (attempts, infra) == (0, 1)
    [settled] = [event for event in project.events(task) if isinstance(event.fact, TaskSettled)]
    assert run_after - settled.at >= timedelta(seconds=3600)
    finished(project.run("orchestrate", "--once"))
    assert epochs(project.events(task)) == [1]


def test_a_loop_that_was_told_to_come_later_does_not_ask_before(project: Project) -> None:
    """Tick after tick goes by in the meantime, and not one of them asks."""
    env = {"TAMMA_FAILPOINTS": "forge.open_issues.before=busy:2@1", **NO_WORKERS}
    loop = project.start("orchestrate", env=env)
    wait_until(lambda: bool(project.rows("SELECT 1 FROM task")), what="the task")
    loop.terminate()
    done = finished(ended(loop))
    assert (done.out + done.err).count("Retry-After: 2") == 1
    [(waited,)] = project.rows(
        "SELECT (SELECT created_at FROM task) - (SELECT min(registered_at) FROM worker WHERE role = 'orchestrator')"
    )
    assert waited >= timedelta(seconds=2)


def test_whatever_the_remote_answers_to_a_push(project: Project) -> None:
    """Also where it took the push and did not say so: the next attempt finds the branch, and pushes nothing else."""
    numbers = [str(n) for n, _ in enumerate(CHOSEN_PUSHES, 1)]
    for number in numbers:
        project.issue(number)
    tasks = queue(project, numbers)
    workers = [
        start_work(project, task, PATH=a_git_that(project, answer), TAMMA_LEASE__DURATION_SECONDS="20")
        for task, answer in zip(tasks, CHOSEN_PUSHES, strict=True)
    ]
    for task, worker, answer in zip(tasks, workers, CHOSEN_PUSHES, strict=True):
        done = ended(worker, seconds=90)
        assert (done.code, project.state(task)) == (75, ("retryable", "unavailable")), (answer, done.err, done.out)
    pushed = {f"tamma/{n}" for n, answer in zip(numbers, CHOSEN_PUSHES, strict=True) if answer.startswith("done")}
    assert set(project.branches()) == pushed
    finish(project)
    assert_delivered_once(project, *numbers)
    assert set(project.rows("SELECT attempts, infra FROM task")) == {(0, 1)}
    assert project.rows("SELECT count(*) FROM effect WHERE kind = 'push' GROUP BY task_id") == [(1,)] * len(
        CHOSEN_PUSHES
    )


def a_git_that(project: Project, answer: str) -> str:
    """A search path with a git that pushes as it is told."""
    shim, git = project.root / answer / "git", shutil.which("git")
    shim.parent.mkdir()
    script = PUSHES[answer].replace("{git}", str(git))
    shim.write_text(f'#!/bin/sh\ncase " $* " in *" push "*) {script};; esac\nexec "{git}" "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return f"{shim.parent}:{project.environ()['PATH']}"
