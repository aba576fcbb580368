"""Workers start, are told about when they end, drain when asked, and die with all that they started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tamma.adapters.dispatch import LocalDispatcher, local
from tamma.core.errors import PermanentError
from tamma.core.ids import TaskId
from tests.support.machine import PATH, PYTHON, is_alive, pid_in

BOXED = """
from datetime import timedelta
from pathlib import Path
from tamma.adapters.system import OsProcesses
from tamma.ports.system import ProcessLimits
import subprocess, os
git = subprocess.Popen(["sh", "-c", "trap '' TERM; echo $$ > git; sleep 600"], start_new_session=True)
OsProcesses().run(["sh", "-c", "(env -i setsid sh -c 'echo $$ > deep; sleep 600' &) ; sleep 600"], cwd=Path.cwd(),
    env={"PATH": os.environ["PATH"], "TAMMA_BOX": "t:1:x"}, limits=ProcessLimits(wall_clock=timedelta(hours=1)))
"""


def a_task() -> TaskId:
    return TaskId(str(uuid4()))


class Desk:
    """Makes dispatchers whose workers run a line of shell or Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[LocalDispatcher] = []

    def dispatcher(self, *argv: str, workers_max: int = 2) -> LocalDispatcher:
        """The script gets ``work --task-id ID`` behind it."""
        made = LocalDispatcher(
            argv=argv,
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            cwd=self.folder,
            workers_max=workers_max,
            logs=self.folder / "logs",
            host="here",
        )
        self.made.append(made)
        return made


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    for made in desk.made:
        made.kill()


def test_a_worker_gets_its_task_and_its_end_is_told_once(desk: Desk) -> None:
    """Pid, task and exit code; slots go down and up."""
    task = a_task()
    dispatcher = desk.dispatcher("sh", "-c", 'echo "$*"; until [ -e go ]; do sleep 0.02; done; exit 11', "tamma")
    pid = dispatcher.start(task)
    assert (dispatcher.slots, dispatcher.running(), dispatcher.has_ended, dispatcher.ended()) == (1, [task], False, [])
    (desk.folder / "go").touch()
    assert dispatcher.wait(timedelta(seconds=10))
    assert dispatcher.has_ended
    (ended,) = dispatcher.ended()
    assert (ended.task_id, ended.pid, ended.exit_code) == (task, pid, 11)
    assert (dispatcher.ended(), dispatcher.slots) == ([], 2)
    assert (desk.folder / "logs" / f"{task}.log").read_text() == f"work --task-id {task}\n"


def test_a_worker_is_told_the_boot_id_it_is_known_by(desk: Desk) -> None:
    """Each gets another, so that one that got the pid of a dead one is somebody else."""
    dispatcher = desk.dispatcher("sh", "-c", 'echo "here:$$:$TAMMA_BOOT_ID" >> known')
    for _ in range(2):
        dispatcher.start(a_task())
        assert dispatcher.wait(timedelta(seconds=10))
    known = (desk.folder / "known").read_text().split()
    assert sorted(ended.worker for ended in dispatcher.ended()) == sorted(known)
    assert len({worker.rpartition(":")[2] for worker in known}) == 2


def test_a_worker_has_a_session_of_its_own(desk: Desk) -> None:
    """A Ctrl-C in the terminal is the orchestrator's alone."""
    pid = desk.dispatcher("sh", "-c", "sleep 600").start(a_task())
    assert os.getsid(pid) == pid


def test_a_drain_asks_each_worker_once(desk: Desk) -> None:
    """A second SIGTERM would mean at once; a wait that is not enough says so."""
    script = "trap 'echo asked >> asked' TERM; echo $$ > pid; until [ -e go ]; do sleep 0.02; done"
    dispatcher = desk.dispatcher("sh", "-c", script)
    dispatcher.start(a_task())
    pid_in(desk.folder / "pid")
    dispatcher.drain()
    dispatcher.drain()
    assert not dispatcher.wait(timedelta(seconds=0.3))
    (desk.folder / "go").touch()
    assert dispatcher.wait(timedelta(seconds=10))
    assert (desk.folder / "asked").read_text() == "asked\n"


def test_a_kill_takes_all_that_a_worker_started(desk: Desk) -> None:
    """What a warden watches, wiped and in a session of its own, and what the worker started beside it."""
    dispatcher = desk.dispatcher(PYTHON, "-c", BOXED)
    worker = dispatcher.start(a_task())
    git, deep = pid_in(desk.folder / "git"), pid_in(desk.folder / "deep")
    dispatcher.kill()
    assert [is_alive(pid) for pid in (worker, git, deep)] == [False] * 3
    assert [ended.exit_code for ended in dispatcher.ended()] == [-signal.SIGKILL]


def test_a_log_stays_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of it is kept; another worker on the same task appends."""
    monkeypatch.setattr(local, "LOG_BYTES_MAX", 100_000)
    task = a_task()
    dispatcher = desk.dispatcher("sh", "-c", "head -c 500000 /dev/zero; echo end")
    dispatcher.start(task)
    assert dispatcher.wait(timedelta(seconds=10))
    dispatcher.ended()
    log = desk.folder / "logs" / f"{task}.log"
    assert log.stat().st_size == 0
    assert log.with_name(log.name + ".1").read_bytes().endswith(b"end\n")
    dispatcher.start(task)
    assert log.stat().st_mode & 0o777 == 0o600


def test_old_logs_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are kept."""
    monkeypatch.setattr(local, "LOGS_MAX", 3)
    dispatcher = desk.dispatcher("true", workers_max=10)
    for _ in range(6):
        dispatcher.start(a_task())
    assert len(list((desk.folder / "logs").iterdir())) == 3


def test_a_worker_that_cannot_be_started_is_said(desk: Desk) -> None:
    """And takes no slot."""
    dispatcher = desk.dispatcher("no-such-program")
    with pytest.raises(PermanentError, match="no-such-program"):
        dispatcher.start(a_task())
    assert dispatcher.slots == 2
