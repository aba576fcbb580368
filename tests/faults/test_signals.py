"""SIGTERM, SIGINT and SIGHUP: whoever is asked to stop gives back what it holds, keeps the work, and is not blamed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tamma.core.event import TaskSettled
from tamma.core.ids import TaskId
from tests.faults.world import (
    assert_delivered_once,
    ended,
    epochs,
    finish,
    hold_agents,
    queue,
    start_work,
    wait_for_event,
)
from tests.support.project import GATE, GIT_ENV, Project, git, wait_until
from tests.support.sample import sample

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 143}
PLACES = (
    (
        "claim.after_record",
        "prepare.after_enter",
        "baseline.after_enter",
        "implement.after_enter",
        "audit.before_enter",
    ),
    ("gates.before_enter", "gates.after_enter", "publish.before_enter", "push.before_effect", "change.before_effect"),
)


@pytest.mark.parametrize("places", PLACES, ids=["first", "last"])
def test_sigterm_in_every_phase(project: Project, places: tuple[str, ...]) -> None:
    """143, the lease given back, no attempt charged; the next run delivers."""
    numbers = [str(n) for n, _ in enumerate(places, 1)]
    for number in numbers:
        project.issue(number)
    tasks = queue(project, numbers)
    workers = [start_work(project, task, f"{place}=term") for task, place in zip(tasks, places, strict=True)]
    for task, worker, place in zip(tasks, workers, places, strict=True):
        done = ended(worker)
        assert done.code == 143, (place, done.err, done.out)
        assert_released(project, task)
    finish(project)
    assert_delivered_once(project, *numbers)


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """As in a terminal: under nohup our children would ignore SIGHUP, as they should."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def in_agent(project: Project) -> None:
    """The agent has edited, and hangs."""
    hold_agents(project)


def in_gate(project: Project) -> None:
    """A gate hangs on the changed tree."""
    go = project.root / "go"
    script = f"grep -q 'a - b' calc.py || while [ ! -e {go} ]; do touch {go}.waits; sleep 0.05; done"
    project.configure(f'{GATE}\n[[gates]]\nname = "slow"\nargv = ["sh", "-c", "{script}"]\n')


def in_setup(project: Project) -> None:
    """The environment's set-up hangs."""
    go = project.root / "go"
    script = f"while [ ! -e {go} ]; do touch {go}.waits; sleep 0.05; done"
    project.configure(f'{GATE}\n[environment]\nsetup = [["sh", "-c", "{script}"]]\n')


# Every third of these has each place and each signal once.
MEETINGS = [
    (where, list(CODES)[(n + m) % 3]) for n, where in enumerate((in_agent, in_gate, in_setup)) for m in range(3)
]


@pytest.mark.parametrize(("where", "number"), sample(MEETINGS, one_in=3))
def test_a_signal_while_a_child_runs(
    project: Project, where: Callable[[Project], None], number: signal.Signals
) -> None:
    """The child is ended, what was edited is kept as a patch that applies, and the next run delivers."""
    where(project)
    [task] = queue(project)
    worker = start_work(project, task)
    if where is in_agent:
        wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    else:
        wait_until((project.root / "go.waits").exists, what="the child")
    worker.send_signal(number)
    done = ended(worker, seconds=20)
    assert done.code == CODES[number], (done.err, done.out)
    assert_released(project, task)
    if where is not in_setup:
        assert_patch_applies(project, task)
    (project.root / "go").touch()
    finish(project)
    assert_delivered_once(project, "1")
    assert epochs(project.events()) == [1, 2]


def test_the_first_signal_drains_the_loop(project: Project) -> None:
    """Its worker finishes in peace, nothing new is started, and it ends with 0."""
    go = hold_agents(project)
    loop = project.start("orchestrate", "--workers", "1")
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    project.issue("2")
    loop.terminate()
    wait_until(lambda: is_draining(project), what="draining")
    go.touch()
    done = ended(loop)
    assert done.code == 0, (done.err, done.out)
    assert_delivered_once(project, "1")
    assert project.state(project.task_id("2"))[0] in {"none", "queued"}


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_the_second_signal_aborts_the_loop(project: Project, number: signal.Signals) -> None:
    """Its worker is asked to stop and gives its lease back; the next loop delivers."""
    go = hold_agents(project)
    loop = project.start("orchestrate", "--workers", "1")
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    loop.send_signal(number)
    wait_until(lambda: is_draining(project), what="draining")
    time.sleep(1.1)  # within a second of the first it would be the same wish
    loop.send_signal(number)
    done = ended(loop, seconds=15)  # the drain limit is 20 s
    assert done.code == CODES[number], (done.err, done.out)
    assert_released(project, project.task_id())
    assert_patch_applies(project, project.task_id())
    go.touch()
    finish(project)
    assert_delivered_once(project, "1")


def is_draining(project: Project) -> bool:
    """Whether a loop said so."""
    return bool(project.rows("SELECT 1 FROM worker WHERE role = 'orchestrator' AND state = 'draining'"))


def assert_released(project: Project, task: TaskId) -> None:
    """Free for the next one, an interruption counted and nothing else."""
    rows = project.rows(
        "SELECT state, outcome, worker, attempts, infra, crashes, interruptions FROM task WHERE id = %s", task
    )
    assert rows == [("queued", "interrupted", None, 0, 0, 0, 1)]
    settled = [event.fact for event in project.events(task) if isinstance(event.fact, TaskSettled)]
    assert [fact.trigger for fact in settled] == ["release"]


def assert_patch_applies(project: Project, task: TaskId) -> None:
    """`tamma task patch` prints what `git apply` takes."""
    patch = project.run("task", "patch", task)
    assert patch.code == 0, patch.err
    clone = project.root / "clone"
    git("clone", "-q", str(project.root / "forge" / "demo" / "repo.git"), str(clone), cwd=project.root)
    subprocess.run(["git", "apply", "-"], cwd=clone, env=GIT_ENV, input=patch.out, text=True, check=True)
    assert "a + b" in (clone / "calc.py").read_text()
