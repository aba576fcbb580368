"""A worker that gets hardly any CPU keeps its lease, or loses it and leaves no trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.faults.test_zombie import all_that_shows
from tests.faults.world import (
    assert_delivered_once,
    ended,
    epochs,
    finish,
    finished,
    queue,
    start_work,
    wait_until_stopped,
)
from tests.support.project import Project, wait_until
from tests.support.sample import IS_WHOLE

BURN_SECONDS = 60


@contextmanager
def starved(worker: subprocess.Popen[str], *, runs: float, stands: float) -> Iterator[None]:
    """The whole group runs for a moment and stands still for another, again and again."""
    is_over = threading.Event()

    def starve() -> None:
        with suppress(ProcessLookupError):
            while not is_over.is_set():
                os.killpg(worker.pid, signal.SIGSTOP)
                time.sleep(stands)
                os.killpg(worker.pid, signal.SIGCONT)
                time.sleep(runs)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_a_worker_with_a_third_of_the_cpu_keeps_its_lease(project: Project) -> None:
    """Slow, and in time with every beat."""
    [task] = queue(project)
    lease = {"TAMMA_LEASE__DURATION_SECONDS": "6", "TAMMA_LEASE__BEAT_SECONDS": "1"}
    worker = start_work(project, task, **lease)
    with starved(worker, runs=0.1, stands=0.2):
        done = ended(worker, seconds=120)
    assert done.code == 0, (done.err, done.out)
    assert_delivered_once(project, "1")
    assert epochs(project.events()) == [1]


def test_a_worker_that_stands_still_for_longer_than_its_lease_loses_it(project: Project) -> None:
    """It runs for a moment between long pauses, while another takes its task: it ends with 20 and shows nothing."""
    [task] = queue(project)
    worker = start_work(project, task, "prepare.after_enter=stop@1")
    wait_until_stopped(worker)
    loop = project.start("orchestrate", "--until-idle")
    wait_until(lambda: epochs(project.events(task)) == [1, 2], what="another's claim")
    with starved(worker, runs=0.2, stands=2.5):
        finished(ended(loop, seconds=120))
        before = all_that_shows(project, ["1"])
        done = ended(worker, seconds=120)
    assert done.code == 20, (done.err, done.out)
    assert "Traceback" not in done.err
    assert_delivered_once(project, "1")
    assert all_that_shows(project, ["1"]) == before
    assert epochs(project.events()) == [1, 2]


@pytest.mark.skipif(not IS_WHOLE, reason="burns every CPU; TAMMA_TEST_WHOLE=1")
def test_the_last_in_the_queue_for_the_cpu_keeps_its_lease(project: Project) -> None:
    """Others want all of it, and the worker is nice."""
    [task] = queue(project)
    code = f"import time\nend = time.monotonic() + {BURN_SECONDS}\nwhile time.monotonic() < end: pass"
    burners = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        worker = start_work(project, task, TAMMA_LEASE__DURATION_SECONDS="20", TAMMA_LEASE__BEAT_SECONDS="2")
        os.setpriority(os.PRIO_PGRP, worker.pid, 19)
        wait_until(lambda: worker.poll() is not None, seconds=2 * BURN_SECONDS, what="its end")
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    done = ended(worker)
    assert done.code in {0, 20}, (done.err, done.out)
    finish(project)
    assert_delivered_once(project, "1")
