"""Real processes for tests: waiting with a deadline, who is alive, memory of a process."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from tamma.adapters.proc import tree
from tamma.adapters.sandboxes.none import NoSandbox
from tamma.adapters.system import OsProcesses
from tamma.ports.system import ProcessLimits

PATH = os.environ.get("PATH", os.defpath)
PYTHON = sys.executable


def eventually(is_so: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until it is so; fail past the deadline."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def limits(
    *,
    seconds: float = 30,
    idle: float | None = None,
    grace: float = 0.3,
    output_bytes_max: int = 262_144,
) -> ProcessLimits:
    """Bounds fit for a test."""
    return ProcessLimits(
        wall_clock=timedelta(seconds=seconds),
        idle=None if idle is None else timedelta(seconds=idle),
        grace=timedelta(seconds=grace),
        output_bytes_max=output_bytes_max,
    )


def a_tag() -> str:
    """A marker nobody else has."""
    return f"test-{uuid4().hex}:1"


def alive(tag: str) -> list[int]:
    """Pids of living processes with this marker."""
    return [proc.pid for proc in tree.marked(tag)]


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    proc = tree.read(pid)
    return proc is not None and proc.is_alive


def pid_in(path: Path) -> int:
    """The number a child wrote, once it is there."""
    eventually(lambda: path.is_file() and path.read_text().endswith("\n"))
    return int(path.read_text())


def peak_bytes() -> int:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def a_sandbox(**environ: str) -> NoSandbox:
    """A real one, with this machine's PATH."""
    return NoSandbox(OsProcesses(), env_allow=(), environ={"PATH": PATH, **environ})
