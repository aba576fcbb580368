"""Processes as ``/proc`` shows them, and signals that reach only the process that was meant.

A pid alone is not an identity: it is reused. Every signal goes to a (pid, start time) pair, through a pidfd where the
system has them. On a system without ``/proc`` the lists are empty; callers fall back to process groups.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Final, NamedTuple

MARKER: Final = "TAMMA_BOX"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


class Proc(NamedTuple):
    """One process, as it was a moment ago."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    start: int
    state: str

    @property
    def is_alive(self) -> bool:
        """Not a zombie that only waits for its parent."""
        return self.state not in "ZX"


def read(pid: int) -> Proc | None:
    """The process, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 — light to import on purpose
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    fields = text[text.rfind(")") + 2 :].split()  # the name before it may hold anything, parentheses included
    return Proc(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), fields[0])


def read_all() -> list[Proc]:
    """Every process of the machine that we can see."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 — light to import on purpose
    except OSError:
        return []
    found = (read(int(name)) for name in names if name.isdecimal())
    return [proc for proc in found if proc is not None]


def descendants(root: int) -> list[Proc]:
    """The living processes below ``root``. Complete as long as ``root`` is alive and a subreaper."""
    below: dict[int, list[Proc]] = {}
    for proc in read_all():
        below.setdefault(proc.ppid, []).append(proc)
    found: list[Proc] = []
    todo = [root]
    while todo:
        children = below.pop(todo.pop(), [])
        found.extend(child for child in children if child.is_alive)
        todo.extend(child.pid for child in children)
    return found


def marked(value: str) -> list[Proc]:
    """The living processes of this user whose environment has the marker with ``value``, or with ``value`` up to a colon.

    It reads the environment that a process was started with: one that replaced its own since is still found.
    """
    exact = f"{MARKER}={value}".encode()
    prefix = exact if value.endswith(":") else exact + b":"
    uid = os.geteuid()
    return [
        proc
        for proc in read_all()
        if proc.is_alive
        and proc.pid != os.getpid()
        and any(entry == exact or entry.startswith(prefix) for entry in _environ(proc.pid, uid))
    ]


def boxed(procs: Iterable[Proc]) -> list[Proc]:
    """Those of them that were started in some box."""
    prefix, uid = f"{MARKER}=".encode(), os.geteuid()
    return [proc for proc in procs if any(entry.startswith(prefix) for entry in _environ(proc.pid, uid))]


def _environ(pid: int, uid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 — light to import on purpose
            if os.fstat(file.fileno()).st_uid != uid:
                return []
            return file.read().split(b"\0")
    except OSError:
        return []


def send(proc: Proc, signum: int) -> bool:
    """Signal exactly this process. False if it is no more, or is not ours to signal."""
    try:
        fd = os.pidfd_open(proc.pid)
    except (OSError, AttributeError):
        return _send_plainly(proc, signum)
    try:
        if not _is_same(proc):
            return False
        signal.pidfd_send_signal(fd, signum)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _send_plainly(proc: Proc, signum: int) -> bool:
    if not _is_same(proc):
        return False
    try:
        os.kill(proc.pid, signum)
    except OSError:
        return False
    return True


def _is_same(proc: Proc) -> bool:
    now = read(proc.pid)
    return now is not None and now.start == proc.start


def send_all(procs: Iterable[Proc], signum: int, *, spared_group: int) -> None:
    """Signal each, and first its whole group at once: a group that forks without end has no moment to slip through.

    ``spared_group`` is the group of the caller's own, which is never signalled as a group. A group's number cannot be
    reused while it has a member, so one member that is still the same proves the group.
    """
    groups: dict[int, list[Proc]] = {}
    for proc in procs:
        groups.setdefault(proc.pgid, []).append(proc)
    for pgid, members in groups.items():
        if pgid not in (0, 1, spared_group) and any(map(_is_same, members)):
            _send_group(pgid, signum)
    for members in groups.values():
        for proc in members:
            send(proc, signum)


def _send_group(pgid: int, signum: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pgid, signum)


def become_subreaper() -> bool:
    """Orphans below this process become its children from now on. False where the system does not know that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signum: int) -> bool:
    """Get ``signum`` when the thread that started this process ends. False where the system does not know that."""
    return _prctl(_PR_SET_PDEATHSIG, signum)


def _prctl(option: int, value: int) -> bool:
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False
