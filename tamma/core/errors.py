"""Errors say who should act, and carry the exit code that a script can branch on.

Every error is told in three parts: what happened, why, and what to do next.
"""

from __future__ import annotations

import errno
from datetime import timedelta
from enum import IntEnum, unique
from typing import ClassVar, Final

# The machine is short of something, its disk erred, or it will be mounted otherwise in a moment: nobody's mistake, and it passes.
PASSING: Final = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EROFS, errno.EIO,
})  # fmt: skip
_REMEDIES: Final = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (fs.file-max)",
    errno.ENOMEM: "free some memory",
    errno.EAGAIN: "free some memory, or raise the limit of processes (ulimit -u)",
    errno.EROFS: "mount it to be written to",
    errno.EIO: "look at the disk (the kernel's log tells more)",
}
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


@unique
class ExitCode(IntEnum):
    """The exit codes of ``tamma work``: an API for CI systems (DESIGN section 9, docs/exit-codes.md)."""

    DELIVERED = 0
    BUG = 1
    USAGE = 2
    NO_SUCH_TASK = 3
    NOT_CLAIMABLE = 4
    GATES_FAILED = 10
    AGENT_FAILED = 11
    BUDGET_SPENT = 12
    BLOCKED = 13
    REFUSED = 14
    LEASE_LOST = 20
    TEMPORARY = 75
    SIGINT = 130
    SIGTERM = 143

    @property
    def meaning(self) -> str:
        """One sentence for the reference and for ``--help``."""
        return _MEANINGS[self][0]

    @property
    def advice(self) -> str:
        """What a CI system should do with it."""
        return _MEANINGS[self][1]


_MEANINGS: dict[ExitCode, tuple[str, str]] = {
    ExitCode.DELIVERED: ("delivered, or proven that nothing needed changing", "pass"),
    ExitCode.BUG: ("a bug in Tamma", "fail, report"),
    ExitCode.USAGE: ("usage or configuration", "fail, fix it"),
    ExitCode.NO_SUCH_TASK: ("no such task", "fail"),
    ExitCode.NOT_CLAIMABLE: (
        "task not claimable or cancelled (running elsewhere, finished, issue closed)",
        "pass or skip",
    ),
    ExitCode.GATES_FAILED: ("gates failed after the allowed repairs; escalated", "fail"),
    ExitCode.AGENT_FAILED: ("agent failed or produced nothing", "fail"),
    ExitCode.BUDGET_SPENT: ("budget spent (tokens, money, turns, time)", "fail"),
    ExitCode.BLOCKED: ("blocked: waits for a human (a question, an approval, a failed set-up)", "neutral"),
    ExitCode.REFUSED: ("refused by policy (untrusted author, protected path, secret)", "fail"),
    ExitCode.LEASE_LOST: ("lease lost: someone else owns the task now", "neutral"),
    ExitCode.TEMPORARY: ("temporary: database, forge or what a set-up needs was away; try again", "retry"),
    ExitCode.SIGINT: ("interrupted by SIGINT; lease released, attempt not charged", "retry"),
    ExitCode.SIGTERM: ("interrupted by SIGTERM; lease released, attempt not charged", "retry"),
}


class TammaError(Exception):
    """Base of every error a user can meet; never raised itself."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        """What happened and why, on one line."""
        return f"{self.what}: {self.why}" if self.why else self.what

    __repr__ = __str__


class ConfigError(TammaError):
    """The operator must act: a file, a flag, an environment variable or a missing program."""

    exit_code = ExitCode.USAGE


class TransientError(TammaError):
    """Something was away; the same call may succeed later, and not before ``retry_after`` where whoever answered said so."""

    exit_code = ExitCode.TEMPORARY

    def __init__(self, what: str, *, why: str = "", fix: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        self.retry_after = retry_after


class PermanentError(TammaError):
    """The same call will fail again: a human must look at the cause."""

    exit_code = ExitCode.BLOCKED


class RefusedByPolicy(TammaError):
    """A rule of the operator forbids it."""

    exit_code = ExitCode.REFUSED


class NoSuchTask(TammaError):
    """The task, or the issue, does not exist."""

    exit_code = ExitCode.NO_SUCH_TASK


class NotClaimable(TammaError):
    """The task is running elsewhere, finished or cancelled; or its issue is closed."""

    exit_code = ExitCode.NOT_CLAIMABLE


class WaitsForHuman(NotClaimable):
    """The task is blocked: no attempt begins until a human decided, so the answer is the one of the attempt that asked him."""

    exit_code = ExitCode.BLOCKED


class LeaseLost(TammaError):
    """Another attempt owns the task now; whatever this one still does must leave no trace."""

    exit_code = ExitCode.LEASE_LOST


class TaskCancelled(NotClaimable):
    """The task was cancelled while this attempt held it."""


class IllegalTransition(AssertionError):
    """A state change that the table does not know: a bug in Tamma."""


def remedy(number: int | None) -> str:
    """What to do about one of ``PASSING``."""
    return _REMEDIES.get(number or 0, "free some disk space")


def of_os_error(error: OSError, *, doing: str) -> TransientError | ConfigError | None:
    """What the system refused in a place of our own, as an error that says who should act; None where it may be our bug."""
    if error.errno in PASSING:
        return TransientError(f"{doing} failed", why=str(error), fix=f"{remedy(error.errno)}, then try again")
    if error.errno in _DENIED:
        place = error.filename if isinstance(error.filename, str) else "the state folder"
        return ConfigError(
            f"{doing} failed",
            why=str(error),
            fix=f"Tamma's user must own {place}: stop everything, then `chown -R` it (docs/operations.md)",
        )
    return None
