"""Workers as children of this process, on this machine.

Each has a session of its own, so that a terminal's Ctrl-C reaches only the orchestrator, which then drains. A worker writes
its log file by itself: it does not depend on us, and goes on when we die.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from tamma.adapters.proc import tree
from tamma.core.errors import PermanentError, TransientError
from tamma.core.ids import BOOT_ID_VARIABLE, TaskId, parse_task_id, worker_id
from tamma.ports.dispatch import Ended

LOG_BYTES_MAX: Final = 8_388_608
LOGS_MAX: Final = 500
_POLL_SECONDS: Final = 0.05
_LOOK_AT_LOGS_SECONDS: Final = 5.0
_KILL_SECONDS: Final = 10.0
_BY_WARDEN_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    task_id: TaskId
    boot: str
    child: subprocess.Popen[bytes]  # noqa: TID251 — the type; see ``start``
    log: Path

    @property
    def is_alive(self) -> bool:
        return self.child.poll() is None  # waits for this pid only, never for what others started


class LocalDispatcher:
    """Starts ``argv work --task-id ID`` on this ``host`` with ``env`` and a boot id, at most ``workers_max`` at a time; logs to
    ``logs/ID.log``."""

    def __init__(
        self, *, argv: Sequence[str], env: Mapping[str, str], cwd: Path, workers_max: int, logs: Path, host: str
    ) -> None:
        self._argv = tuple(argv)
        self._env = dict(env)
        self._cwd = cwd
        self._workers_max = workers_max
        self._logs = logs
        self._host = host
        self._workers: dict[int, _Worker] = {}
        self._drained: set[int] = set()
        self._look_at_logs = 0.0

    @property
    def slots(self) -> int:
        """See ``ports.dispatch.Dispatcher``."""
        return max(0, self._workers_max - len(self.running()))

    def start(self, task_id: TaskId) -> int:
        """See ``ports.dispatch.Dispatcher``. Raises PermanentError where there is no such program or folder."""
        log, boot = self._logs / f"{parse_task_id(task_id)}.log", secrets.token_hex(8)
        try:
            self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            _prune(self._logs)
            with log.open("ab") as file:
                log.chmod(0o600)
                child = subprocess.Popen(  # noqa: TID251 — outlives the call, so Processes.run is not for it
                    [*self._argv, "work", "--task-id", task_id],
                    cwd=self._cwd,
                    env=self._env | {BOOT_ID_VARIABLE: boot},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
        except (FileNotFoundError, PermissionError, NotADirectoryError) as e:
            raise PermanentError(
                f"a worker cannot be started: {self._argv[0]}", why=str(e), fix="repair the installation"
            ) from e
        except OSError as e:
            raise TransientError(
                "a worker cannot be started", why=str(e), fix="free processes, memory or disk space"
            ) from e
        self._workers[child.pid] = _Worker(task_id=task_id, boot=boot, child=child, log=log)
        return child.pid

    @property
    def has_ended(self) -> bool:
        """See ``ports.dispatch.Dispatcher``."""
        return any(not worker.is_alive for worker in self._workers.values())

    def ended(self) -> Sequence[Ended]:
        """See ``ports.dispatch.Dispatcher``."""
        self._bound_logs()
        gone = [pid for pid, worker in self._workers.items() if not worker.is_alive]
        self._drained.difference_update(gone)
        return [self._ended(self._workers.pop(pid)) for pid in gone]

    def running(self) -> Sequence[TaskId]:
        """See ``ports.dispatch.Dispatcher``."""
        return [worker.task_id for worker in self._workers.values() if worker.is_alive]

    def drain(self) -> None:
        """See ``ports.dispatch.Dispatcher``. A worker is asked once: to it, a second signal means at once."""
        for pid, worker in self._workers.items():
            if worker.is_alive and pid not in self._drained:
                self._drained.add(pid)
                worker.child.terminate()

    def kill(self) -> None:
        """See ``ports.dispatch.Dispatcher``.

        What a warden watches is left to it: it notices the worker's death and knows its tree better than a walk of ``/proc``
        does. Everything else below a worker (git, for one) is killed here, and what a warden did not manage after that.
        """
        workers = [worker for worker in self._workers.values() if worker.is_alive]
        below = [proc for worker in workers for proc in tree.descendants(worker.child.pid)]
        boxed = {proc.pid for proc in tree.boxed(below)}
        for worker in workers:
            worker.child.kill()
        tree.send_all((p for p in below if p.pid not in boxed), signal.SIGKILL, spared_group=os.getpgrp())
        begun = time.monotonic()
        while left := [proc for proc in below if _is_there(proc)]:
            waited = time.monotonic() - begun
            if waited > _KILL_SECONDS:
                raise TransientError(f"{len(left)} processes of workers do not die", fix="end them by hand")
            if waited > _BY_WARDEN_SECONDS:
                tree.send_all(left, signal.SIGKILL, spared_group=os.getpgrp())
            time.sleep(_POLL_SECONDS)
        for worker in workers:
            worker.child.wait()

    def wait(self, timeout: timedelta) -> bool:
        """See ``ports.dispatch.Dispatcher``."""
        deadline = time.monotonic() + timeout.total_seconds()
        while self.running():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_POLL_SECONDS, left))
        return True

    def _ended(self, worker: _Worker) -> Ended:
        with contextlib.suppress(OSError):
            _bound_log(worker.log)
        code, pid = worker.child.returncode, worker.child.pid
        assert code is not None
        identity = worker_id(host=self._host, pid=pid, boot=worker.boot)
        return Ended(task_id=worker.task_id, worker=identity, pid=pid, exit_code=code)

    def _bound_logs(self) -> None:
        now = time.monotonic()
        if now < self._look_at_logs:
            return
        self._look_at_logs = now + _LOOK_AT_LOGS_SECONDS
        for worker in self._workers.values():
            with contextlib.suppress(OSError):
                _bound_log(worker.log)


def _bound_log(log: Path) -> None:
    """Cut in place, since the worker holds it open for appending: the last quarter goes to ``ID.log.1``."""
    size = log.stat().st_size
    if size <= LOG_BYTES_MAX:
        return
    with log.open("rb") as file:
        file.seek(size - LOG_BYTES_MAX // 4)
        log.with_name(log.name + ".1").write_bytes(file.read(LOG_BYTES_MAX // 4))
    os.truncate(log, 0)


def _prune(logs: Path) -> None:
    """Only the newest logs stay."""
    found = list(logs.glob("*.log*"))
    if len(found) >= LOGS_MAX:
        for old in sorted(found, key=_age)[: len(found) - LOGS_MAX + 1]:
            old.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_there(proc: tree.Proc) -> bool:
    now = tree.read(proc.pid)
    return now is not None and now.start == proc.start and now.is_alive
