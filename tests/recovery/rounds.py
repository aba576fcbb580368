"""The rounds: one fault each, and the seconds until work goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tests.faults.world import EDIT, EDIT_AND_HANG
from tests.support.project import Project, a_project, wait_until

LEASES: Final = (3.0, 6.0)
DRAIN_SECONDS: Final = 1.0
DOWN_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 120
# The wait between attempts has its own settings: here there is next to none. All else is as it comes, the tick of 5 s too.
_QUICK: Final = """
[retry]
backoff_base_seconds = 0.01
backoff_max_seconds = 0.01
crashes_max = 100
interruptions_max = 100

[limits]
drain_seconds = {drain}
open_changes_per_repository_max = 10000

[lease]
duration_seconds = {lease}
beat_seconds = {beat}
"""
_NEWEST: Final = """SELECT extract(epoch FROM at)::float FROM event WHERE stream = %s AND type = %s
    AND at > to_timestamp(%s) ORDER BY version LIMIT 1"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a measure is taken."""

    root: Path
    server: EmbeddedPostgres


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """``run`` gives the seconds of each round; ``wait_seconds`` of them were configured; of the others the p99 is to stay
    within the objective."""

    run: Callable[[Place, int], Iterator[float]]
    objective_seconds: float
    wait_seconds: float = 0.0


class Bench:
    """A project, and what the rounds ask of it."""

    def __init__(self, project: Project, *, steps: str, lease: float = 60.0, drain: float = 20.0) -> None:
        self.project = project
        project.repository()
        project.configure(steps=steps, quick=_QUICK.format(lease=lease, beat=min(15.0, lease / 4), drain=drain))
        self._loops = 0

    def loop(self) -> subprocess.Popen[str]:
        """One with one worker, once it is known to the database."""
        self._loops += 1
        started = self.project.start("orchestrate", "--workers", "1", output=self.project.root / f"{self._loops}.log")
        known = "SELECT 1 FROM worker WHERE role = 'orchestrator' AND split_part(id, ':', 2) = %s"
        self.until(lambda: bool(self.project.rows(known, str(started.pid))))
        return started

    def now(self) -> float:
        """By the database's clock."""
        return float(self.project.rows("SELECT extract(epoch FROM clock_timestamp())::float")[0][0])

    def after(self, begun: float, type_: str, number: str = "1") -> float:
        """Seconds until the first such event of an issue's task."""
        args = (f"task:{self.project.task_id(number)}", type_, begun)
        self.until(lambda: bool(self.project.rows(_NEWEST, *args)))
        return float(self.project.rows(_NEWEST, *args)[0][0]) - begun

    def worker(self, *, epoch: int) -> int:
        """Pid of the worker whose agent is at work in this attempt."""
        at_work = "SELECT pid FROM worker JOIN task ON task.worker = worker.id WHERE epoch = %s AND phase = 'implement'"
        self.until(lambda: bool(self.project.rows(at_work, epoch)))
        return int(self.project.rows(at_work, epoch)[0][0])

    def until(self, is_so: Callable[[], bool]) -> None:
        """Within reason."""
        wait_until(is_so, seconds=_PATIENCE_SECONDS)

    def assert_let_go(self) -> None:
        """The lease is released and nothing but the interruption was counted."""
        [row] = self.project.rows("SELECT state, lease_expires_at, attempts, crashes, infra FROM task")
        assert row == ("queued", None, 0, 0, 0), row


def worker_killed(place: Place, rounds: int) -> Iterator[float]:
    """kill -9 of a worker whose loop lives → its task runs again. The loop sees its own child die; no lease has to end."""
    with a_project(place.root, place.server.url()) as project:
        bench = Bench(project, steps=EDIT_AND_HANG)
        project.issue()
        bench.loop()
        for epoch in range(1, rounds + 1):
            pid, begun = bench.worker(epoch=epoch), bench.now()
            os.kill(pid, signal.SIGKILL)
            yield bench.after(begun, "TASK.CLAIM.SUCCEEDED")


def foreign_worker_killed(place: Place, rounds: int, *, lease: float) -> Iterator[float]:
    """The same where the worker is another loop's, which died before it: only the end of the lease tells."""
    with a_project(place.root, place.server.url()) as project:
        bench = Bench(project, steps=EDIT_AND_HANG, lease=lease)
        project.issue()
        loop = bench.loop()
        for epoch in range(1, rounds + 1):
            pid = bench.worker(epoch=epoch)
            loop.kill()
            loop.wait()
            loop = bench.loop()
            begun = bench.now()
            os.kill(pid, signal.SIGKILL)
            yield bench.after(begun, "TASK.CLAIM.SUCCEEDED")


def loop_restarted(place: Place, rounds: int) -> Iterator[float]:
    """A new loop is started after a kill -9 of the old one → an issue that waited has a worker under way."""
    with a_project(place.root, place.server.url()) as project:
        bench = Bench(project, steps=EDIT)
        for number in map(str, range(1, rounds + 1)):
            project.issue(number)
            begun = bench.now()
            loop = bench.loop()
            yield bench.after(begun, "TASK.DISPATCH.SUCCEEDED", number)
            bench.until(lambda number=number: "tamma:delivered" in project.issue_text(number))  # type: ignore[misc]
            loop.kill()
            loop.wait()


def database_back(place: Place, rounds: int) -> Iterator[float]:
    """The server was killed, and takes connections again → an issue that came meanwhile has a worker under way."""
    with a_project(place.root, place.server.url()) as project:
        bench = Bench(project, steps=EDIT)
        bench.loop()
        for number in map(str, range(1, rounds + 1)):
            place.server.stop("immediate")
            project.issue(number)
            time.sleep(DOWN_SECONDS)
            place.server.start()
            begun = bench.now()
            yield bench.after(begun, "TASK.DISPATCH.SUCCEEDED", number)
            bench.until(lambda number=number: "tamma:delivered" in project.issue_text(number))  # type: ignore[misc]


def worker_asked(place: Place, rounds: int) -> Iterator[float]:
    """SIGTERM to a worker whose agent is at work → its exit, the lease released, the attempt not charged."""
    with a_project(place.root, place.server.url()) as project:
        bench = Bench(project, steps=EDIT_AND_HANG)
        project.issue()
        assert project.run("task", "add", "demo#1").code == 0
        for epoch in range(1, rounds + 1):
            worker = project.start("work", "--task-id", project.task_id(), output=project.root / f"work-{epoch}.log")
            bench.worker(epoch=epoch)
            yield _ended(worker)
            bench.assert_let_go()


def loop_asked(place: Place, rounds: int) -> Iterator[float]:
    """SIGTERM to a loop whose worker will not end in time → the exit of both, the lease released, the attempt not charged."""
    with a_project(place.root, place.server.url()) as project:
        bench = Bench(project, steps=EDIT_AND_HANG, drain=DRAIN_SECONDS)
        project.issue()
        for epoch in range(1, rounds + 1):
            loop = bench.loop()
            bench.worker(epoch=epoch)
            yield _ended(loop)
            bench.assert_let_go()


def _ended(child: subprocess.Popen[str]) -> float:
    begun = time.monotonic()
    child.terminate()
    assert child.wait(timeout=_PATIENCE_SECONDS) == 128 + signal.SIGTERM, child.returncode
    return time.monotonic() - begun


MEASURES: Final[Mapping[str, Measure]] = {
    "worker-killed": Measure(run=worker_killed, objective_seconds=10),
    **{
        f"foreign-worker-killed-{lease:g}": Measure(
            run=partial(foreign_worker_killed, lease=lease), objective_seconds=10, wait_seconds=lease
        )
        for lease in LEASES
    },
    "loop-restarted": Measure(run=loop_restarted, objective_seconds=5),
    "database-back": Measure(run=database_back, objective_seconds=10),
    "worker-asked-to-stop": Measure(run=worker_asked, objective_seconds=30),
    "loop-asked-to-stop": Measure(run=loop_asked, objective_seconds=30, wait_seconds=DRAIN_SECONDS),
}
