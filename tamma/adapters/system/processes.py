"""Child processes: bounded in time and output, and dead with their whole tree when ``run`` returns.

Each command runs under a *warden* (``tamma.adapters.proc.warden``, which says why), so nothing here forks by itself, waits
for a child that somebody else started, or depends on which thread it runs in. If the warden itself is killed or stopped by
what it watches, the tree is ended from here: by parentage while the warden is there, then by session and marker.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import tamma
from tamma.adapters.proc import tree
from tamma.adapters.proc.warden import KILL_SECONDS
from tamma.adapters.system.output import Kept, Lines
from tamma.core.errors import PASSING, PermanentError, TransientError, remedy
from tamma.ports.system import Completed, NotStarted, ProcessLimits, Stop

_LAUNCH: Final = "import sys; sys.path.append(sys.argv[1]); from tamma.adapters.proc.warden import main; main()"
_ROOT: Final = str(Path(tamma.__file__).resolve().parent.parent)
_CHUNK_BYTES: Final = 1 << 16
_DRAIN_CHUNKS_MAX: Final = 1_024  # 64 MiB, far more than a pipe holds
_ASK_SECONDS: Final = 0.2
_WARDEN_SECONDS: Final = KILL_SECONDS + 5.0
_UNRESPONSIVE_SECONDS: Final = 5.0


class OsProcesses:
    """Starts children of this machine. Safe to use from several threads at once."""

    def __init__(self, *, python: str = sys.executable) -> None:
        self._python = python

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        limits: ProcessLimits,
        stdin: bytes = b"",
        on_line: Callable[[str], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Completed:
        """See ``ports.system.Processes``."""
        _check(argv, env)
        with contextlib.ExitStack() as stack:
            run = _Run(self._python, argv[0], limits=limits, stdin=stdin, on_line=on_line, should_stop=should_stop)
            stack.callback(run.close)
            run.start({"argv": list(argv), "env": dict(env), "cwd": str(cwd), "grace": limits.grace.total_seconds()})
            run.follow()
            return run.completed()


class _Run:
    """One command from start to end; ``close`` leaves nothing behind however it ended."""

    def __init__(
        self,
        python: str,
        program: str,
        *,
        limits: ProcessLimits,
        stdin: bytes,
        on_line: Callable[[str], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._python = python
        self._program = program
        self._limits = limits
        self._stdin = memoryview(stdin)
        self._kept = Kept(limits.output_bytes_max)
        self._lines = Lines(on_line) if on_line else None
        self._should_stop = should_stop or (lambda: False)
        self._selector = selectors.DefaultSelector()
        self._warden: subprocess.Popen[bytes] | None = None  # noqa: TID251 — the type
        self._said = bytearray()
        self._marker: str | None = None
        self._cwd = ""
        self._child: tree.Proc | None = None
        self._code: int | None = None
        self._stop: Stop | None = None
        self._left: int | None = None
        self._is_lost = False
        self._ask_at = 0.0
        self._give_up_at = float("inf")

    def start(self, request: Mapping[str, object]) -> None:
        """Start the warden and hand it the command."""
        env = request["env"]
        assert isinstance(env, dict)
        self._marker = env.get(tree.MARKER)
        self._cwd = str(request["cwd"])
        self._control, theirs = socket.socketpair()
        self._output, output_in = os.pipe()
        feed: int | None = None
        stdin = subprocess.DEVNULL
        if self._stdin:
            stdin, feed = os.pipe()
        try:
            self._warden = subprocess.Popen(  # noqa: TID251 — this is the place it is banned in favour of
                [self._python, "-I", "-S", "-c", _LAUNCH, _ROOT, str(theirs.fileno())],
                env={} if self._marker is None else {tree.MARKER: self._marker},
                stdin=stdin,
                stdout=output_in,
                stderr=output_in,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as e:
            raise TransientError(
                f"{self._program} cannot be started", why=str(e), fix="free processes or memory"
            ) from e
        finally:
            theirs.close()
            os.close(output_in)
            if feed is not None:
                os.close(stdin)
                self._feed = feed
                self._watch(feed, selectors.EVENT_WRITE, self._on_stdin)
            self._watch(self._output, selectors.EVENT_READ, self._on_output)
            self._started = self._last_output = time.monotonic()
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(request).encode() + b"\n")
        self._watch(self._control.fileno(), selectors.EVENT_READ, self._on_control)

    def follow(self) -> None:
        """Read and feed until the tree is dead."""
        while self._left is None and not self._is_lost:
            for key, _ in self._selector.select(_ASK_SECONDS / 2):
                key.data()
            self._look_at_limits()
        if self._is_lost:
            self._end_without_warden()
        # What a dead tree left in the pipe; one that cannot be killed may go on writing for ever.
        for _ in range(_DRAIN_CHUNKS_MAX):
            if not self._read_output():
                break
        if self._lines:
            self._lines.end()

    def completed(self) -> Completed:
        """How it ended."""
        if self._left:
            raise TransientError(
                f"{self._left} processes of {self._program} do not die",
                why="they hang in the kernel, or belong to another user",
                fix="look at them with ps and end them by hand",
            )
        return Completed(
            exit_code=-signal.SIGKILL if self._code is None else self._code,
            stop=self._stop or Stop.EXITED,
            output=self._kept.text(),
            output_bytes=self._kept.total,
            duration=timedelta(seconds=time.monotonic() - self._started),
        )

    def close(self) -> None:
        """Let the warden end what is left, by closing its control socket; then make sure."""
        if self._warden is None:
            self._close_all()
            return
        self._control.close()
        self._wake_warden()
        try:
            self._warden.wait(_WARDEN_SECONDS if self._left is None else 5)
        except subprocess.TimeoutExpired:
            self._end_without_warden()
        finally:
            self._close_all()

    # What the selector calls

    def _on_output(self) -> None:
        if not self._read_output():
            self._selector.unregister(self._output)

    def _read_output(self) -> bool:
        """Whether there may be more."""
        try:
            chunk = os.read(self._output, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            return False
        self._last_output = time.monotonic()
        self._kept.add(chunk)
        if self._lines:
            self._lines.add(chunk)
        return True

    def _on_stdin(self) -> None:
        try:
            self._stdin = self._stdin[os.write(self._feed, self._stdin[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except OSError:
            self._stdin = self._stdin[:0]  # it stopped reading; its exit code says whether that was right
        if not self._stdin:
            self._selector.unregister(self._feed)
            os.close(self._feed)
            del self._feed

    def _on_control(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._is_lost = self._left is None
            self._selector.unregister(self._control.fileno())
            return
        self._said += data
        while b"\n" in self._said:
            line, _, self._said = self._said.partition(b"\n")
            kind, _, rest = line.decode("utf-8", "replace").partition(" ")
            self._hear(kind, rest)

    def _hear(self, kind: str, rest: str) -> None:
        match kind:
            case "S":
                self._child = tree.read(int(rest))
            case "X":
                self._code = int(rest)
                self._give_up_at = min(self._give_up_at, time.monotonic() + _WARDEN_SECONDS)
            case "D":
                self._left = int(rest)
            case "F":
                stage, _, number = rest.partition(" ")
                raise _not_started(self._program, self._cwd if stage == "cwd" else None, int(number))
            case _:
                raise RuntimeError(f"the warden of {self._program}: {rest}")

    # Limits

    def _look_at_limits(self) -> None:
        now = time.monotonic()
        if self._stop is None and self._code is None:
            self._stop = self._reason(now)
            if self._stop is not None:
                self._ask_to_end(now)
        elif now > self._give_up_at:
            self._is_lost = self._left is None

    def _reason(self, now: float) -> Stop | None:
        limits = self._limits
        if now - self._started > limits.wall_clock.total_seconds():
            return Stop.WALL_CLOCK
        if limits.idle is not None and now - self._last_output > limits.idle.total_seconds():
            return Stop.IDLE
        if now >= self._ask_at:
            self._ask_at = now + _ASK_SECONDS
            if self._should_stop():
                return Stop.ASKED
        return None

    def _ask_to_end(self, now: float) -> None:
        self._give_up_at = now + self._limits.grace.total_seconds() + _UNRESPONSIVE_SECONDS
        self._wake_warden()
        with contextlib.suppress(OSError):
            self._control.send(b"e")

    def _wake_warden(self) -> None:
        assert self._warden is not None
        if self._warden.poll() is None:
            self._warden.send_signal(signal.SIGCONT)  # what it watches may have stopped it

    def _end_without_warden(self) -> None:
        """The warden is dead or does not answer: end what can be found, the warden last."""
        assert self._warden is not None
        deadline = time.monotonic() + KILL_SECONDS
        empty = 0  # one walk proves little: families move in the middle of it
        while time.monotonic() < deadline and empty < 3:
            lost = self._findable()
            empty = 0 if lost else empty + 1
            tree.send_all(lost, signal.SIGKILL, spared_group=os.getpgrp())
            time.sleep(0.005)
        self._left = len(self._findable())
        self._warden.kill()
        self._warden.wait()
        tree.send_all(self._findable(), signal.SIGKILL, spared_group=os.getpgrp())

    def _findable(self) -> list[tree.Proc]:
        assert self._warden is not None
        found = {proc.pid: proc for proc in tree.descendants(self._warden.pid)} if self._warden.poll() is None else {}
        if self._child is not None:
            sid = self._child.pid
            found |= {p.pid: p for p in tree.read_all() if p.sid == sid and p.is_alive and p.start >= self._child.start}
        if self._marker is not None and ":" in self._marker:
            found |= {proc.pid: proc for proc in tree.marked(self._marker)}
        found.pop(self._warden.pid, None)
        return list(found.values())

    def _watch(self, fd: int, event: int, call: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self._selector.register(fd, event, call)

    def _close_all(self) -> None:
        self._selector.close()
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._feed)
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._output)
        with contextlib.suppress(AttributeError, OSError):
            self._control.close()


def _check(argv: Sequence[str], env: Mapping[str, str]) -> None:
    if not argv or not argv[0]:
        raise PermanentError("an empty command line cannot be started", fix="name a program")
    texts = (*argv, *env.keys(), *env.values())
    if any("\0" in text for text in texts) or any(not name or "=" in name for name in env):
        raise PermanentError(
            f"{argv[0]!r} cannot be started", why="a NUL in its command line or environment, or a bad variable name"
        )


def _not_started(program: str, folder: str | None, number: int) -> PermanentError | TransientError:
    why = os.strerror(number)
    if number in PASSING:
        return TransientError(f"{program} cannot be started", why=why, fix=f"{remedy(number)}, then try again")
    if folder is not None:
        return PermanentError(f"{program} cannot be started in {folder}", why=why, fix="look at that folder")
    fixes = {
        errno.ENOENT: "install it, or write its full path",
        errno.EACCES: "make it executable (chmod +x)",
        errno.ENOEXEC: "give it a first line like #!/bin/sh",
        errno.E2BIG: "pass less on the command line: a prompt by file or stdin",
    }
    return NotStarted(f"{program} cannot be started", why=why, fix=fixes.get(number, "look at that program"))
