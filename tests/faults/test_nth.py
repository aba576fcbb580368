"""Fail the 1st, 2nd, 3rd … database request, git command and file operation of an attempt, until one comes through clean.

The way of SQLite's tests: whatever operation fails, before it did anything or after it did all, nothing is lost and nothing
done twice. A run takes a sample that shifts with the day; ``TAMMA_TEST_WHOLE=1`` takes every operation.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tamma.core.ids import TaskId
from tests.faults.world import ended, finish, queue, start_work
from tests.support.project import Done, Project
from tests.support.sample import DAY, IS_WHOLE, sample
from tests.support.wire import a_wire

ONE_IN: Final = 20
STEP: Final = 1 if IS_WHOLE else ONE_IN
SIDE_BY_SIDE: Final = 6
# Delivered, not ours to write, called off, blocked for a human, the lease lost, away.
ENDS: Final = {0, 2, 4, 13, 20, 75}
PATIENT: Final = {"TAMMA_LEASE__DURATION_SECONDS": "20", "TAMMA_LEASE__BEAT_SECONDS": "5"}
pytestmark = pytest.mark.timeout(3600 if IS_WHOLE else 300)
OPERATIONS: Final = """
import builtins, errno, os
_nth, _log = int(os.environ["NTH"]), os.environ["NTH_LOG"]
_count = 0
def _counted(real):
    def operation(*args, **kwargs):
        global _count
        _count += 1
        if _count == _nth:
            with _open(_log, "a") as log:
                log.write(real.__name__)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(args[0]) if args else None)
        return real(*args, **kwargs)
    return operation
_open = builtins.open
for _name in ("replace", "rename", "link", "fsync", "mkdir", "unlink", "write"):
    setattr(os, _name, _counted(getattr(os, _name)))
"""


def judged(project: Project, done: Done, nth: int) -> None:
    """It ended as a process ends that met trouble, and said so plainly."""
    assert done.code in ENDS, (nth, done.code, done.err, done.out)
    assert "Traceback" not in done.err, (nth, done.err)


def more(project: Project, numbers: range) -> list[TaskId]:
    """Issues and their tasks, however many changes wait for people and however many tasks are made in a tick."""
    project.env |= dict.fromkeys(
        ("TAMMA_LIMITS__OPEN_CHANGES_PER_REPOSITORY_MAX", "TAMMA_LIMITS__CREATIONS_PER_TICK_MAX"), "1000"
    )
    for number in numbers:
        project.issue(str(number))
    return queue(project, [str(number) for number in numbers])


def all_delivered(project: Project, number: int) -> None:
    """Whoever was stopped by its trouble is let go on by a human; then each issue is delivered, once."""
    finish(project)
    for (task,) in project.rows("SELECT id FROM task WHERE state = 'blocked'"):
        assert project.run("task", "approve", task).code == 0
    finish(project)
    for n in range(1, number + 1):
        task = project.task_id(str(n))
        assert project.state(task) == ("succeeded", "delivered"), (n, project.state(task), project.types(task))
        told = [line.split("=")[1].split()[0] for line in project.comments(str(n))]
        assert sorted(told) in (["delivered"], ["asked", "delivered"]), (n, told)
    assert set(project.branches()) == {f"tamma/{n}" for n in range(1, number + 1)}
    assert len(project.changes()) == number, project.changes()
    assert not project.rows("SELECT key FROM effect WHERE state = 'intended'")


@pytest.mark.parametrize("is_done", [False, True], ids=["undone", "done"])
def test_any_database_request_may_be_lost(project: Project, is_done: bool) -> None:
    """Before the server saw it, or with its reply: a commit whose word was lost is unknown, and is asked for."""
    with a_wire(project.database_url) as wire:
        [first] = queue(project)
        wire.cut_at(0, is_done=False)
        assert ended(start_work(project, first, DATABASE_URL=wire.url, **PATIENT), seconds=60).code == 0
        requests = wire.asked
    assert requests > 50, "an attempt asks its database more often than that"
    chosen = sample(range(1, requests + 1), one_in=ONE_IN)
    tasks = more(project, range(2, len(chosen) + 2))
    for at in range(0, len(chosen), SIDE_BY_SIDE):
        with ExitStack() as wires:
            begun = []
            for nth, task in list(zip(chosen, tasks, strict=True))[at : at + SIDE_BY_SIDE]:
                wire = wires.enter_context(a_wire(project.database_url))
                wire.cut_at(nth, is_done=is_done)
                begun.append((nth, start_work(project, task, DATABASE_URL=wire.url, **PATIENT)))
            for nth, worker in begun:
                judged(project, ended(worker, seconds=60), nth)
    all_delivered(project, len(chosen) + 1)


@pytest.mark.parametrize("is_done", [False, True], ids=["undone", "done"])
def test_any_git_command_may_fail(project: Project, is_done: bool) -> None:
    """Before it did anything, or after all was done."""
    shim, log = project.root / "bin" / "git", project.root / "calls"
    shim.parent.mkdir()
    real = shutil.which("git")
    before, after = ("", f'"{real}" "$@" </dev/stdin; exit 128') if is_done else ("exit 128", "")
    shim.write_text(
        f'#!/bin/sh\nlog="${{HOME%/*}}/calls"\n[ -n "$NTH_FILE" ] || NTH_FILE={log}\n'
        f'echo x >> "$NTH_FILE.$PPID"\nn=$(wc -l < "$NTH_FILE.$PPID")\n'
        f'if [ "$n" = "$(cat {log}.nth.$PPID 2>/dev/null)" ]; then {before or ":"}; {after or ":"}; fi\nexec "{real}" "$@"\n'
    )
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    path = f"{shim.parent}:{project.environ()['PATH']}"
    [first] = queue(project)
    worker = start_work(project, first, PATH=path, **PATIENT)
    assert ended(worker, seconds=60).code == 0
    commands = len(Path(f"{log}.{worker.pid}").read_text().splitlines())
    assert commands > 10, "an attempt calls git more often than that"
    chosen = sample(range(1, commands + 1), one_in=8)
    tasks = more(project, range(2, len(chosen) + 2))
    for at in range(0, len(chosen), SIDE_BY_SIDE):
        begun = []
        for nth, task in list(zip(chosen, tasks, strict=True))[at : at + SIDE_BY_SIDE]:
            worker = start_work(project, task, PATH=path, **PATIENT)
            Path(f"{log}.nth.{worker.pid}").write_text(str(nth))
            begun.append((nth, worker))
        for nth, worker in begun:
            judged(project, ended(worker, seconds=60), nth)
    all_delivered(project, len(chosen) + 1)


def test_any_file_operation_may_fail(project: Project) -> None:
    """An error of the disk at any write, rename, sync or removal of the worker's own."""
    site = project.root / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(OPERATIONS)
    python_path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    number, nth, failed = 0, 1 + DAY % STEP, 0
    while failed == number:
        begun = []
        for task in more(project, range(number + 1, number + 1 + SIDE_BY_SIDE)):
            env = {
                "PYTHONPATH": python_path,
                "NTH": str(nth),
                "NTH_LOG": str(project.root / f"failed-{nth}"),
                **PATIENT,
            }
            begun.append((nth, start_work(project, task, **env)))
            nth += STEP
        for operation, worker in begun:
            judged(project, ended(worker, seconds=60), operation)
        number += SIDE_BY_SIDE
        failed = len(list(project.root.glob("failed-*")))
    assert failed > 3, "an attempt touches more files than that"
    all_delivered(project, number)
