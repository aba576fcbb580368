"""The process between Tamma and a child: it starts one command and outlives every process of its tree.

Why a process of its own, and not ``preexec_fn`` in the worker:

- it is single-threaded, so fork, setsid and prctl before exec are safe; in a worker with a heartbeat thread they are not;
- as a *subreaper* it becomes the parent of every orphan below it, double-forked daemons included. Its tree is therefore
  complete, and it may wait for any child, while the worker must never wait for what others started;
- it notices the worker's death, kill -9 included, by the closed control socket, and then ends the whole tree.

Protocol on the control socket (descriptor in argv): the request as one JSON line comes in; out go ``S pid`` (started) or
``F stage errno`` (not started), ``X code`` (the command ended), ``D left`` (the tree is dead but for ``left``), or
``B text`` (a bug). Any byte in means: end it, with grace. End of file, SIGTERM, SIGINT or SIGHUP: end it at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any, Final

from tamma.adapters.proc import tree

LINGER_SECONDS: Final = 0.3
LEFTOVER_SECONDS: Final = 1.0
KILL_SECONDS: Final = 20.0
_REAPED_MAX: Final = 500
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RESET: Final = (
    *_SIGNALS,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGQUIT,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Warden:
    """One command and its tree."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._child = 0
        self._code: int | None = None
        self._asked = False
        self._at_once = False
        self._wake, self._wake_in = os.pipe()
        self._is_complete = tree.become_subreaper()
        self._nice = os.nice(0)
        with contextlib.suppress(OSError):
            os.nice(-10)  # where it is allowed: a thousand busy processes must not keep their end from running
        tree.die_with_parent(signal.SIGTERM)

    def run(self) -> None:
        """Start, wait, end the tree, tell."""
        request = self._request()
        if request is None:
            return
        if self._start(request):
            self._let_go_of_output()
            self._watch_signals()
            self._wait(lambda: self._code is not None or self._asked, seconds=None)
            self._end_tree(float(request["grace"]))
        self._say(f"D {0 if self._is_dead() else max(1, len(self._living()))}")

    def _request(self) -> dict[str, Any] | None:
        data = bytearray()
        while not data.endswith(b"\n"):
            chunk = os.read(self._control, 1 << 16)
            if not chunk:
                return None
            data += chunk
        request: dict[str, Any] = json.loads(data)
        return request

    def _start(self, request: dict[str, Any]) -> bool:
        trouble, trouble_in = os.pipe()
        warden = os.getpid()
        try:
            self._child = os.fork()
        except OSError as e:
            self._say(f"F exec {e.errno}")
            return False
        if self._child == 0:
            os.nice(self._nice - os.nice(0))
            _become(request, warden=warden, trouble=trouble_in)
        os.close(trouble_in)
        said = os.read(trouble, 64).decode()
        os.close(trouble)
        if said:
            os.waitpid(self._child, 0)
            self._say(f"F {said}")
            return False
        self._say(f"S {self._child}")
        return True

    def _let_go_of_output(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)

    def _watch_signals(self) -> None:
        for fd in (self._wake, self._wake_in):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for signum in _SIGNALS:
            signal.signal(signum, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._asked = self._at_once = True

    def _wait(self, is_over: Any, *, seconds: float | None) -> bool:
        """Until ``is_over`` (True), the time is up or everything must end at once (False)."""
        deadline = None if seconds is None else time.monotonic() + seconds
        step = 0.005
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while True:
            self._reap()
            if is_over():
                return True
            if self._at_once and deadline is not None:
                return False
            if deadline is not None and time.monotonic() >= deadline:
                return False
            for fd, _ in poll.poll(None if deadline is None else step * 1000):
                self._hear(fd)
                if fd == self._control and self._at_once:
                    poll.unregister(fd)
            step = min(step * 2, 0.05)

    def _hear(self, fd: int) -> None:
        try:
            data = os.read(fd, 4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if fd == self._control:
            self._asked = True
            self._at_once = self._at_once or not data

    def _reap(self) -> bool:
        """Collect the dead, but not for ever while others die; whether any child is left."""
        for _ in range(_REAPED_MAX):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._code = os.waitstatus_to_exitcode(status)
                self._say(f"X {self._code}")
        return True

    def _end_tree(self, grace: float) -> None:
        if not self._asked and self._wait(self._is_dead, seconds=LINGER_SECONDS):
            return
        seconds = grace if self._asked else min(grace, LEFTOVER_SECONDS)
        if not self._at_once:
            self._signal(signal.SIGTERM)
            if self._wait(self._is_dead, seconds=seconds):
                return
        deadline = time.monotonic() + KILL_SECONDS
        while not self._is_dead() and time.monotonic() < deadline:
            self._signal(signal.SIGKILL)
            time.sleep(0.002)

    def _is_dead(self) -> bool:
        """A subreaper without children has no descendants; a walk that finds nobody proves less, since families move in
        the middle of it."""
        if not self._child:
            return True
        has_children = self._reap()
        return not has_children if self._is_complete else not self._living()

    def _living(self) -> list[tree.Proc]:
        """Everybody found below us; without /proc the direct child stands for its group."""
        if os.path.isdir("/proc/self"):  # noqa: PTH112 — light to import on purpose
            return tree.descendants(os.getpid())
        try:
            os.killpg(self._child, 0)
        except OSError:
            return []
        return [tree.Proc(self._child, os.getpid(), self._child, self._child, 0, "R")]

    def _signal(self, signum: int) -> None:
        living = self._living()
        if any(proc.sid == self._child for proc in living):
            # Before the slow, exact way: most bombs share the command's group, and its number is not free while they live.
            with contextlib.suppress(OSError):
                os.killpg(self._child, signum)
        if os.path.isdir("/proc/self"):  # noqa: PTH112 — light to import on purpose
            tree.send_all(living, signum, spared_group=os.getpgrp())

    def _say(self, line: str) -> None:
        try:
            os.write(self._control, line.encode() + b"\n")
        except OSError:
            self._asked = self._at_once = True


def _become(request: dict[str, Any], *, warden: int, trouble: int) -> None:
    """In the forked child: become the command, or tell why not. Never returns."""
    stage = "exec"
    try:
        os.setsid()
        tree.die_with_parent(signal.SIGKILL)
        if os.getppid() != warden:
            os._exit(127)
        for signum in _RESET:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        stage = "cwd"
        os.chdir(request["cwd"])
        stage = "exec"
        os.execvpe(request["argv"][0], request["argv"], request["env"])  # noqa: S606 — no shell, on purpose
    except OSError as e:
        os.write(trouble, f"{stage} {e.errno}".encode())
    except BaseException:  # noqa: BLE001 — a forked child must not run on into its parent's code
        os.write(trouble, f"{stage} 22".encode())
    os._exit(127)


def main() -> None:
    """Run as ``python -I -S -c '…' FOLDER CONTROL``."""
    control = int(sys.argv[2])
    os.set_inheritable(control, False)  # noqa: FBT003 — positional only
    try:
        Warden(control).run()
    except BaseException as e:
        os.write(control, f"B {type(e).__name__}: {e}\n".encode())
        raise
