"""The machine: time for waiting, chance, identity, child processes, named fail points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, unique
from pathlib import Path
from typing import Protocol

from tamma.core.errors import PermanentError


class NotStarted(PermanentError):
    """The program is not there or cannot be executed: whoever wrote the command line must act."""


class Clock(Protocol):
    """Local waiting only; leases and due times are the database clock's business."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; goes on while the process is stopped."""
        ...

    def pause(self, duration: timedelta) -> None:
        """Wait."""
        ...


class Chance(Protocol):
    """Randomness, for jitter."""

    def fraction(self) -> float:
        """A number in [0, 1)."""
        ...


class Supervisor(Protocol):
    """Whoever keeps the loop running and starts it anew when it hangs."""

    def ready(self) -> None:
        """The loop has begun."""
        ...

    def alive(self) -> None:
        """The loop goes on; may be said as often as one likes."""
        ...

    def stopping(self) -> None:
        """The loop drains."""
        ...


class FailPoints(Protocol):
    """Named places where a test can make the process die, raise or stop; nothing happens unless asked for by name."""

    def reach(self, name: str) -> None:
        """Say that the place ``name`` was reached."""
        ...


@unique
class Stop(StrEnum):
    """Why a child process is no more."""

    EXITED = "exited"
    WALL_CLOCK = "wall-clock limit"
    IDLE = "no output for too long"
    ASKED = "stopped on request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Bounds of one child. ``output_bytes_max`` bounds what is *kept* (head and tail of stdout and stderr together); the
    rest is drained and counted."""

    wall_clock: timedelta
    idle: timedelta | None = None
    output_bytes_max: int = 262_144
    grace: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a child ended. ``exit_code`` is negative for a signal, as in subprocess; output is text, cleaned and bounded."""

    exit_code: int
    stop: Stop
    output: str
    output_bytes: int
    duration: timedelta

    @property
    def is_ok(self) -> bool:
        """Ended by itself, with 0."""
        return self.stop is Stop.EXITED and self.exit_code == 0


class Processes(Protocol):
    """The only way to start a child. The environment is exactly ``env``: nothing is inherited."""

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
        """Run to the end and return; on return the whole process tree is dead, daemons included.

        A child still alive at a limit, or once ``should_stop()`` is true (asked at least twice a second), gets SIGTERM,
        the grace period, then SIGKILL, and with it every descendant. ``on_line`` gets each complete output line, cleaned,
        at most 8 KiB of it; of a flood 10,000 a second, and how many were left out. Raises PermanentError if the program cannot
        be started (its message names the program), NotStarted if that is the program's fault.
        """
        ...
