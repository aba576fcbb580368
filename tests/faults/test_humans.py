"""People change their mind while Tamma works: what they approved is published, what they took back is not."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tamma.core.event import ApprovalAsked
from tamma.core.ids import TaskId
from tamma.ports.store import WorkerState
from tests.adapters.postgres.store_world import open_store
from tests.faults.world import (
    assert_delivered_once,
    ended,
    epochs,
    finish,
    finished,
    hold_agents,
    queue,
    reap,
    start_work,
    wait_for_event,
    wait_until_stopped,
)
from tests.support.project import GATE, Project, git, wait_until

APPROVE = GATE + "\n[change]\napprove_before_publish = true\n"
PATIENT = {"TAMMA_LEASE__DURATION_SECONDS": "60"}


def test_what_was_approved_is_what_is_published(project: Project) -> None:
    """Blocked with 13 until somebody approves; then that very commit goes out, though the base has moved and the agent
    would do something else today."""
    project.configure(APPROVE)
    [task] = queue(project)
    done = ended(start_work(project, task, **PATIENT))
    assert done.code == 13, (done.err, done.out)
    assert project.state() == ("blocked", "blocked")
    assert project.branches() == {}
    commit = asked(project)
    finish(project)  # tells the issue, and leaves the task alone
    assert project.state() == ("blocked", "blocked")
    assert "waits-for-human" in project.issue_text()
    move_base(project)
    project.script('[[play]]\nissue = "*"\nsteps = [{ write = "other.py", text = "another" }]\n')
    finished(project.run("task", "approve", task))
    finish(project)
    assert project.state() == ("succeeded", "delivered")
    assert project.branches() == {"tamma/1": commit}
    assert "a + b" in project.show("calc.py")
    assert len(project.changes()) == 1
    assert epochs(project.events()) == [1, 2]
    assert "tamma:delivered" in project.issue_text()
    assert "waits-for-human" not in project.issue_text().split("---")[1]


def test_an_approved_commit_outlives_a_gate_that_cannot_be_asked(project: Project) -> None:
    """That is no word about the commit: people are asked, and once the gate is mended that very commit goes out."""
    project.configure(APPROVE)
    [task] = queue(project)
    assert ended(start_work(project, task, **PATIENT)).code == 13
    commit = asked(project)
    finished(project.run("task", "approve", task))
    project.configure(APPROVE + '[[gates]]\nname = "mute"\nargv = ["true"]\nreport = "never.xml"\n')
    done = ended(start_work(project, task, **PATIENT))
    assert done.code == 13, (done.err, done.out)
    assert f"the approved commit {commit} cannot be judged now: gate mute" in done.err
    project.configure(APPROVE)
    finished(project.run("task", "approve", task))
    finish(project)
    assert project.branches() == {"tamma/1": commit}
    assert project.types().count("AGENT.RUN.STARTED") == 1


def test_an_approved_commit_is_published_once_even_if_its_worker_dies(project: Project) -> None:
    """kill -9 after the push of the approved commit: the next attempt finishes the same one."""
    project.configure(APPROVE)
    [task] = queue(project)
    assert ended(start_work(project, task, **PATIENT)).code == 13
    commit = asked(project)
    finished(project.run("task", "approve", task))
    assert ended(start_work(project, task, "push.after_effect=kill")).code == -9
    finish(project)
    assert project.branches() == {"tamma/1": commit}
    assert len(project.changes()) == 1


def test_an_issue_edited_meanwhile_waits_for_a_human(project: Project) -> None:
    """13, and no branch: the change answers a text that is no more. A retry answers the new one."""
    task = while_the_agent_works(project, lambda: project.issue(body="please subtract"), code=13)
    assert project.state() == ("blocked", "blocked")
    assert project.branches() == {}
    finished(project.run("task", "retry", task))
    finish(project)
    assert project.state(project.task_id(generation=2)) == ("succeeded", "delivered")
    assert len(project.changes()) == 1


@pytest.mark.parametrize("is_paused", [False, True], ids=["before the attempt", "while it was paused"])
def test_a_begun_delivery_of_an_edited_issue_is_finished_once_approved(project: Project, is_paused: bool) -> None:
    """kill -9 after the push, then the issue is edited: 13, and approving opens the change for the very commit that was pushed."""
    [task] = queue(project)
    assert ended(start_work(project, task, "push.after_effect=kill")).code == -9
    pushed = project.branches()
    reap(project)
    if is_paused:
        worker = start_work(project, task, "change.before_intent=stop", **PATIENT)
        wait_until_stopped(worker)
        finished(project.run("pause"))
        worker.send_signal(signal.SIGCONT)
        wait_until(lambda: "paused" in project.run("explain", "demo#1").out, what="the pause to be told")
        project.issue(body="please subtract")
        finished(project.run("resume"))
    else:
        project.issue(body="please subtract")
        worker = start_work(project, task, **PATIENT)
    done = ended(worker)
    assert done.code == 13, (done.err, done.out)
    assert asked(project) == pushed["tamma/1"]
    finished(project.run("task", "approve", task))
    finish(project)
    assert project.state() == ("succeeded", "delivered")
    assert project.branches() == pushed
    assert len(project.changes()) == 1


@pytest.mark.parametrize("matter", [{"state": "closed"}, {"labels": []}], ids=["closed", "unlabelled"])
def test_an_issue_called_off_meanwhile_gets_no_branch(project: Project, matter: dict[str, Any]) -> None:
    """The worker ends with 4 even if no loop looks: it asks the issue once more before anything shows outside."""
    while_the_agent_works(project, lambda: project.issue(**matter), code=4)
    assert project.state() == ("cancelled", "cancelled")
    assert project.branches() == {}
    assert project.changes() == []


def test_a_cancelled_task_stops_its_agent_within_a_beat(project: Project) -> None:
    """`task cancel` while it works, long before the lease is over: 4, no attempt charged, nothing shown, the work kept."""
    hold_agents(project)
    [task] = queue(project)
    worker = start_work(project, task, **PATIENT)
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    finished(project.run("task", "cancel", task))
    done = ended(worker, seconds=15)
    assert done.code == 4, (done.err, done.out)
    assert project.state() == ("cancelled", "cancelled")
    assert project.rows("SELECT attempts, infra, interruptions, crashes FROM task") == [(0, 0, 0, 0)]
    assert (project.branches(), project.changes()) == ({}, [])
    assert "a + b" in finished(project.run("task", "patch", task)).out


def test_a_worker_told_to_drain_gives_its_lease_back(project: Project) -> None:
    """Wherever it runs, by its row in the registry alone: as at SIGTERM, and the next one delivers."""
    go = hold_agents(project)
    [task] = queue(project)
    worker = start_work(project, task, **PATIENT)
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    with closing(open_store(project.database_url)) as store:
        [mine] = store.workers.list(states=[WorkerState.ONLINE])
        store.workers.change_state(mine.id, WorkerState.DRAINING, reason="the host is needed")
    done = ended(worker, seconds=15)
    assert done.code == 143, (done.err, done.out)
    assert project.state() == ("queued", "interrupted")
    assert project.rows("SELECT attempts, infra, interruptions, crashes FROM task") == [(0, 0, 1, 0)]
    go.touch()
    finish(project)
    assert_delivered_once(project, "1")


def test_a_loop_calls_off_what_runs_for_a_closed_issue(project: Project) -> None:
    """The running worker learns of it at its next beat, stops its agent and ends."""
    hold_agents(project)
    loop = project.start("orchestrate", "--until-idle", env={"TAMMA_LEASE__BEAT_SECONDS": "0.5"})
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    project.issue(state="closed")
    done = ended(loop)
    assert done.code == 0, (done.err, done.out)
    assert project.state() == ("cancelled", "cancelled")
    assert project.refs().count("\n") == 1
    assert [row[0] for row in project.rows("SELECT state FROM worker WHERE role = 'worker'")] == ["gone"]


def test_the_label_put_on_again_asks_for_a_second_generation(project: Project) -> None:
    """A failed task takes the label off; only a human puts it on again."""
    project.configure(steps='{ fail = "no idea" }')
    project.env["TAMMA_RETRY__ATTEMPTS_MAX"] = "1"
    finish(project)
    assert project.state() == ("failed", "agent failed")
    assert "needs-human" in project.issue_text()
    finish(project)
    assert len(project.rows("SELECT 1 FROM task")) == 1
    project.configure()
    project.issue(labels=["tamma"])
    finish(project)
    assert project.state(project.task_id(generation=2)) == ("succeeded", "delivered")
    assert len(project.changes()) == 1


def test_a_change_that_a_human_closed_is_not_redone(project: Project) -> None:
    """Not by the label, and not by `work --issue`: 4."""
    finish(project)
    close_change(project)
    refs = project.refs()
    project.issue(labels=["tamma"])
    finish(project)
    assert len(project.rows("SELECT 1 FROM task")) == 1
    assert project.run("work", "--issue", "demo#1").code == 4
    assert (project.refs(), len(project.changes())) == (refs, 1)


def test_a_closed_change_is_redone_when_somebody_asks(project: Project) -> None:
    """`task retry`, and then `work --issue` takes the task that it made."""
    finish(project)
    close_change(project)
    finished(project.run("task", "retry", project.task_id()))
    finished(project.run("work", "--issue", "demo#1"))
    assert project.state(project.task_id(generation=2)) == ("succeeded", "delivered")
    assert len(project.changes()) == 2


def test_a_change_closed_before_its_delivery_was_recorded_is_not_redone(project: Project) -> None:
    """The worker died right after it opened the change, and a human closed it before anybody looked."""
    [task] = queue(project)
    assert ended(start_work(project, task, "change.after_effect=kill")).code == -9
    close_change(project)
    refs = project.refs()
    finish(project)
    assert project.state() == ("cancelled", "cancelled")
    assert (project.refs(), len(project.changes())) == (refs, 1)


def close_change(project: Project) -> None:
    """A human says no."""
    [path] = (project.root / "forge" / "demo" / "changes").glob("*.md")
    path.write_text(path.read_text().replace("state: open", "state: closed"))
    assert "state: closed" in path.read_text()


def asked(project: Project) -> str:
    """The commit that waits."""
    [commit] = [event.fact.commit for event in project.events() if isinstance(event.fact, ApprovalAsked)]
    return commit


def move_base(project: Project) -> None:
    """Somebody else's commit on main."""
    clone = project.root / "elsewhere"
    git("clone", "-q", str(project.root / "forge" / "demo" / "repo.git"), str(clone), cwd=project.root)
    (clone / "README.md").write_text("moved\n")
    git("commit", "-qam", "moved", cwd=clone)
    git("push", "-q", "origin", "main", cwd=clone)


def while_the_agent_works(project: Project, act: Callable[[], object], *, code: int) -> TaskId:
    """Do it then, and let the worker end with this code."""
    go = hold_agents(project)
    [task] = queue(project)
    worker = start_work(project, task, **PATIENT)
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    act()
    go.touch()
    done = ended(worker)
    assert done.code == code, (done.err, done.out)
    assert "Traceback" not in done.err
    return task
