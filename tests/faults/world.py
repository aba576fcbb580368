"""What the fault tests share: attempts that die on cue, others that finish their work, and how a single delivery looks."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Final

from tamma.core.event import ChangeDelivered, Event, TaskClaimed
from tamma.core.ids import TaskId
from tests.support.project import Done, Project, wait_until
from tests.support.sample import IS_WHOLE

# Only those who are to die or to be stopped have a short lease: the others must not lose theirs to a busy machine.
SHORT_LEASE: Final = {"TAMMA_LEASE__DURATION_SECONDS": "2", "TAMMA_LEASE__BEAT_SECONDS": "0.4"}
NO_WORKERS: Final = {"TAMMA_LIMITS__WORKERS": "0"}
EDIT: Final = '{ replace = "calc.py", old = "a - b", new = "a + b" }'
EDIT_AND_HANG: Final = EDIT + ', { say = "edited" }, { sleep = 600 }'


def queue(project: Project, numbers: Collection[str] = ("1",)) -> list[TaskId]:
    """Tasks for labelled issues, made by a loop without workers of its own."""
    finished(project.run("orchestrate", "--once", env=NO_WORKERS))
    tasks = [project.task_id(number) for number in numbers]
    assert all(project.state(task) == ("queued", None) for task in tasks), [project.state(task) for task in tasks]
    return tasks


def finish(project: Project, *, workers: int = 2) -> Done:
    """The loop, until nothing is left to do."""
    seconds = 1200 if IS_WHOLE else 120
    return finished(project.run("orchestrate", "--until-idle", "--workers", str(workers), timeout=seconds))


def reap(project: Project) -> None:
    """Loops without workers, until nobody holds a task any more."""

    def is_free() -> bool:
        finished(project.run("orchestrate", "--once", env=NO_WORKERS))
        return not project.rows("SELECT 1 FROM task WHERE state = 'running'")

    wait_until(is_free, what="the end of the lease")


def finished(done: Done) -> Done:
    """Ended with 0."""
    assert done.code == 0, (done.code, done.err, done.out)
    return done


def hold_agents(project: Project) -> Path:
    """Agents edit, and then wait for the returned file, so that a test decides how long an attempt takes."""
    go = project.root / "go"
    held = f'{{ run = ["sh", "-c", "while [ ! -e {go} ]; do sleep 0.05; done"] }}'
    project.configure(steps=f'{EDIT}, {{ say = "edited" }}, {held}')
    return go


def start_work(project: Project, task: TaskId, points: str = "", **env: str) -> subprocess.Popen[str]:
    """An attempt with a short lease, and fail points of its own."""
    return project.start("work", "--task-id", task, env={**SHORT_LEASE, "TAMMA_FAILPOINTS": points, **env})


def ended(child: subprocess.Popen[str], *, seconds: float = 30) -> Done:
    """The same child at its end."""
    out, err = child.communicate(timeout=seconds)
    return Done(code=child.returncode, out=out, err=err)


def wait_for_event(project: Project, type_: str, task: TaskId | None = None) -> None:
    """Until the task's stream has one."""
    wait_until(lambda: type_ in project.types(task), what=type_)


def wait_for_phase(project: Project, phase: str, task: TaskId | None = None) -> None:
    """Until the task's attempt is there."""
    wanted = [(phase,)]
    wait_until(
        lambda: project.rows("SELECT phase FROM task WHERE id = %s", task or project.task_id()) == wanted, what=phase
    )


def wait_until_stopped(child: subprocess.Popen[str]) -> None:
    """Until it got SIGSTOP."""

    def is_stopped() -> bool:
        assert child.poll() is None, child.communicate()
        return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    wait_until(is_stopped, what="SIGSTOP")


def wake(child: subprocess.Popen[str]) -> Done:
    """Continue a stopped one, and see how it ends."""
    child.send_signal(signal.SIGCONT)
    return ended(child)


def epochs(events: Collection[Event]) -> list[int]:
    """Of the attempts in a stream."""
    return [event.fact.epoch for event in events if isinstance(event.fact, TaskClaimed)]


def assert_delivered_once(project: Project, *numbers: str, name: str = "demo") -> None:
    """Each issue has one change from one branch and was told once; the forge holds nothing else of ours."""
    for number in numbers:
        task = project.task_id(number, name=name)
        assert project.state(task) == ("succeeded", "delivered"), (number, project.state(task), project.types(task))
        assert "a + b" in project.show("calc.py", branch=f"tamma/{number}", name=name)
        assert len(project.comments(number, name=name)) == 1, project.issue_text(number, name=name)
        assert "tamma:delivered" in project.issue_text(number, name=name)
        delivered = [e.fact for e in project.events(task) if isinstance(e.fact, ChangeDelivered)]
        assert {fact.commit for fact in delivered} == {project.branches(name)[f"tamma/{number}"]}, (number, delivered)
    assert set(project.branches(name)) == {f"tamma/{number}" for number in numbers}
    assert len(project.changes(name)) == len(numbers), project.changes(name)
    assert len(project.refs(name).splitlines()) == len(numbers) + 1, project.refs(name)
    undone = project.rows("SELECT key, state FROM effect WHERE state = 'intended'")
    assert not undone, undone
