"""Every fail point with every fault but kill -9 of the worker (that has its own file): nothing is lost, nothing done twice.

Each test takes a part of the matrix side by side, since a case is a whole attempt in a process of its own. A run kills the
worker at every second fail point, and takes each other one with one of these faults; ``TAMMA_TEST_WHOLE=1`` takes each with all.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Final

import pytest

from tamma.engine.failpoints import FAIL_POINTS
from tests.faults.test_worker_killed import CHOSEN, NEEDS_REPAIR, PROUD_GATE
from tests.faults.world import assert_delivered_once, ended, finish, queue, start_work
from tests.support.project import Project
from tests.support.sample import DAY, IS_WHOLE

POINTS: Final = sorted(FAIL_POINTS)
FAULTS: Final = {"raise": {0, 1}, "term": {0, 143}, "cut": {0, 20, 75}, "full": {0, 75}}
ORPHAN: Final = "orphan"
TELLING: Final = ("comment.", "labels.")
EVERY: Final = (*FAULTS, ORPHAN)
PART: Final = 13
PATIENT: Final = {"TAMMA_LEASE__DURATION_SECONDS": "20"}


def cases(fault: str, *, is_whole: bool) -> list[str]:
    """The fail points that meet a fault."""
    spared = [point for point in POINTS if point not in CHOSEN]
    return POINTS if is_whole else spared[(EVERY.index(fault) + DAY // 2) % len(EVERY) :: len(EVERY)]


def parts(*faults: str) -> list[tuple[str, list[str]]]:
    """Of this run."""
    found = []
    for fault in faults:
        points = cases(fault, is_whole=IS_WHOLE)
        found += [(fault, points[n : n + PART]) for n in range(0, len(points), PART)]
    return found


def with_repairs(project: Project, number: int) -> list[str]:
    """So many issues whose attempts come by every fail point."""
    need_repairs(project)
    numbers = [str(n) for n in range(1, number + 1)]
    for n in numbers:
        project.issue(n)
    return numbers


def need_repairs(project: Project) -> None:
    """Attempts come by every fail point."""
    project.configure(PROUD_GATE, steps=None)
    project.script(**NEEDS_REPAIR)


def test_each_fail_point_meets_a_fault_in_each_run_and_every_one_in_the_whole_matrix() -> None:
    """No place is left out."""
    sampled = {place for fault in EVERY for place in cases(fault, is_whole=False)}
    assert not CHOSEN & sampled
    assert CHOSEN | sampled == FAIL_POINTS
    assert sum(len(cases(fault, is_whole=True)) for fault in EVERY) == len(EVERY) * len(FAIL_POINTS)


@pytest.mark.parametrize(("fault", "part"), parts(*FAULTS))
def test_the_worker_meets_a_fault(project: Project, fault: str, part: Sequence[str]) -> None:
    """An exception nobody expected, a polite signal, every connection lost, no space on the disk: one delivery each."""
    numbers = with_repairs(project, len(part))
    tasks = queue(project, numbers)
    workers = [start_work(project, task, f"{p}={fault}", **PATIENT) for task, p in zip(tasks, part, strict=True)]
    for worker, place in zip(workers, part, strict=True):
        done = ended(worker, seconds=60)
        assert done.code in FAULTS[fault], (place, done.code, done.err, done.out)
        assert "Traceback" not in done.err, (place, done.err)
    finish(project)
    assert_delivered_once(project, *numbers)


@pytest.mark.parametrize(("fault", "part"), parts(ORPHAN))
def test_the_orchestrator_dies_while_its_worker_is_there(project: Project, fault: str, part: Sequence[str]) -> None:
    """kill -9 of the loop at each boundary of its worker: the worker goes on, and another loop does the rest.

    A settled task may be told by the loop itself, before its worker comes to it: nobody is killed then, and the loop ends well.
    """
    need_repairs(project)
    for number, place in enumerate(part, start=1):
        project.issue(str(number))
        queue(project, [str(number)])
        env = {"TAMMA_FAILPOINTS": f"{place}={fault}@1"}
        loop = project.start("orchestrate", "--until-idle", "--workers", "1", env=env)
        done = ended(loop, seconds=60)
        is_well = done.code == 0 and place.startswith(TELLING)
        assert is_well or done.code == -signal.SIGKILL, (place, done.code, done.err, done.out)
    finish(project)
    assert_delivered_once(project, *(str(n) for n in range(1, len(part) + 1)))
