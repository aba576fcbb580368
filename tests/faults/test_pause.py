"""The pause switch: while it is on nothing is begun and nothing shows outside; afterwards everything goes on, nothing twice."""

from __future__ import annotations

import pytest

from tests.cli.ends import assert_ok, assert_told
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
    wait_for_phase,
    wait_until_stopped,
    wake,
)
from tests.support.project import Project, wait_until

LONG = {"TAMMA_LEASE__DURATION_SECONDS": "20"}


def test_nothing_begins_while_work_is_paused(project: Project) -> None:
    """No task for an eligible issue, no attempt for a queued one, by the loop or by hand; status and explain say why."""
    [task] = queue(project)
    project.issue("2")
    assert "paused" in assert_ok(project.run("pause", "--reason", "release day")).out
    assert "already" in assert_ok(project.run("pause")).out
    done = project.run("orchestrate", "--until-idle")
    assert (done.code, done.out) == (75, ""), done
    assert "waits until work is no longer paused: demo#1, demo#2\n" in done.err
    assert project.state(task) == ("queued", None)
    assert project.state(project.task_id("2")) == ("none", None)
    assert_told(project.run("work", "--task-id", task), 75, "paused", "release day", "tamma resume")
    assert "release day" in assert_ok(project.run("status")).out
    assert assert_ok(project.run("status", "--json")).json["paused"][0]["scope"] == "*"
    for ref in ("demo#1", "demo#2"):
        told = assert_ok(project.run("explain", ref)).out
        assert "release day" in told
        assert told.endswith("  next: `tamma resume` lets it go on\n"), "nothing that would end with 75"
    assert_ok(project.run("resume"))
    assert "not paused" in assert_ok(project.run("resume")).out
    finish(project)
    assert_delivered_once(project, "1", "2")
    assert assert_ok(project.run("db", "verify")).code == 0


def test_nobody_makes_a_task_while_work_is_paused(project: Project) -> None:
    """Who names an issue is told of the pause, and nothing is queued; who resumes is told what stays paused."""
    assert project.run("pause").code == 0
    assert project.run("pause", "demo").code == 0
    done = project.run("work", "--issue", "1")
    assert (done.code, project.rows("SELECT count(*) FROM task")) == (75, [(0,)])
    assert "paused" in done.err
    resumed = project.run("resume")
    assert (resumed.code, resumed.out) == (0, "it goes on\n")
    assert "tamma resume demo" in resumed.err


def test_one_repository_is_paused_and_others_go_on(project: Project) -> None:
    """Only its own work waits, and the loop says so at its end; a name that nobody serves is an error."""
    project.repository(name="other")
    project.issue("1", name="other")
    assert_ok(project.run("pause", "demo"))
    done = project.run("orchestrate", "--until-idle")
    assert (done.code, "no longer paused: demo#1\n" in done.err) == (75, True), done
    assert project.state(project.task_id("1", name="demo")) == ("none", None)
    assert_delivered_once(project, "1", name="other")
    assert_told(project.run("pause", "nobody"), 2, "no repository 'nobody'", "demo, other")
    assert_ok(project.run("resume", "demo"))
    finish(project)
    assert_delivered_once(project, "1")


def test_a_pause_that_holds_nothing_back_is_no_reason_to_try_again(project: Project) -> None:
    """What is done is done: the loop ends with 0."""
    finish(project)
    assert_ok(project.run("pause"))
    finish(project)


@pytest.mark.parametrize("place", ["push.before_effect", "change.before_effect"])
def test_a_running_attempt_waits_before_each_effect(project: Project, place: str) -> None:
    """It holds its lease and its work, and goes on by itself when it may: the same attempt delivers."""
    [task] = queue(project)
    worker = start_work(project, task, f"{place}=stop", **LONG)
    wait_until_stopped(worker)
    before = (project.branches(), project.changes())
    assert_ok(project.run("pause"))
    worker.send_signal(18)
    wait_for_phase(project, "publish", task)
    wait_until(lambda: "paused" in project.run("explain", "demo#1").out, what="the pause to be told")
    assert (project.branches(), project.changes()) == before
    assert worker.poll() is None
    assert_ok(project.run("resume"))
    assert ended(worker).code == 0
    assert_delivered_once(project, "1")
    assert epochs(project.events(task)) == [1]


def test_what_was_said_during_the_pause_is_heard(project: Project) -> None:
    """An issue closed while its attempt was held back: nothing is shown of it."""
    go = hold_agents(project)
    [task] = queue(project)
    worker = start_work(project, task, **LONG)
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    assert_ok(project.run("pause"))
    go.touch()
    wait_for_phase(project, "publish", task)
    project.issue("1", state="closed")
    assert_ok(project.run("resume"))
    assert ended(worker).code == 4
    assert project.branches() == {}
    assert project.state(task)[0] == "cancelled"


def test_a_paused_worker_can_be_asked_to_stop(project: Project) -> None:
    """It gives its lease back like any other; after the pause another delivers."""
    [task] = queue(project)
    worker = start_work(project, task, "push.before_intent=stop", **LONG)
    wait_until_stopped(worker)
    assert_ok(project.run("pause"))
    worker.send_signal(15)
    assert wake(worker).code == 143
    assert project.branches() == {}
    assert_ok(project.run("resume"))
    finish(project)
    assert_delivered_once(project, "1")


def test_a_pause_between_comment_and_labels_holds_the_labels(project: Project) -> None:
    """Each is an effect of its own: what was said stays said, and the rest comes later, once."""
    [task] = queue(project)
    worker = start_work(project, task, "comment.after_record=stop", **LONG)
    wait_until_stopped(worker)
    assert_ok(project.run("pause"))
    assert wake(worker).code == 0
    assert "tamma:delivered" not in project.issue_text()
    assert_ok(project.run("resume"))
    finish(project)
    assert_delivered_once(project, "1")


def test_an_issue_is_not_told_while_work_is_paused(project: Project) -> None:
    """The attempt may settle, since that shows nowhere; the comment comes later, once."""
    [task] = queue(project)
    worker = start_work(project, task, "settle.after_effect=stop", **LONG)
    wait_until_stopped(worker)
    assert_ok(project.run("pause"))
    assert wake(worker).code == 0
    finished(project.run("orchestrate", "--once", env=NO_WORKERS))
    assert project.comments() == []
    assert_ok(project.run("resume"))
    finish(project)
    assert_delivered_once(project, "1")
