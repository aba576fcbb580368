"""The result file: what an agent may say about its run. A hint; the diff and the gates decide."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import PASSING, PermanentError, TransientError, remedy
from tamma.core.redact import bounded, clean
from tamma.ports.agent import AgentResult, AgentStatus
from tamma.ports.system import Completed, Stop

RESULT_BYTES_MAX: Final = 65_536
DETAIL_BYTES_MAX: Final = 4_000
_USAGE_KEYS_MAX: Final = 20
_LAST_LINE_BYTES_MAX: Final = 500
_STATUSES: Final[Mapping[str, AgentStatus]] = {
    "finished": AgentStatus.FINISHED,
    "blocked": AgentStatus.BLOCKED,
    "no_change_needed": AgentStatus.NO_CHANGE_NEEDED,
    "failed": AgentStatus.FAILED,
    "budget_spent": AgentStatus.BUDGET_SPENT,
}
_STOPS: Final[Mapping[Stop, tuple[AgentStatus, str]]] = {
    Stop.ASKED: (AgentStatus.STOPPED, "stopped on request"),
    Stop.WALL_CLOCK: (
        AgentStatus.BUDGET_SPENT,
        "it was still running at its wall-clock limit (agent.wall_clock_seconds)",
    ),
    Stop.IDLE: (AgentStatus.IDLE, "it said nothing for too long (limit: agent.idle_seconds)"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the file says. ``status`` is None where there is no usable file; ``fault`` then says why, if there is one."""

    status: AgentStatus | None = None
    detail: str = ""
    fault: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)


def write_new(path: Path, text: str) -> None:
    """A new file of ours in place of whatever is there: opening a FIFO or a link that an earlier run planted could wait for
    ever, or write elsewhere."""
    try:
        forget_result(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as e:
        what = f"{path.name} cannot be written for the agent"
        if e.errno in PASSING:
            raise TransientError(what, why=str(e), fix=remedy(e.errno)) from e
        raise PermanentError(what, why=str(e), fix="look at that folder") from e


def forget_result(path: Path) -> None:
    """Whatever an earlier run left there."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path, root=path.parent)
    else:
        path.unlink(missing_ok=True)


def read_result(path: Path) -> Said:
    """The agent wrote this file: it may be a link, a pipe, huge, or anything but JSON."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Said()
    except OSError as e:
        return Said(fault=f"the result file was ignored: {e.strerror}")
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return Said(fault="the result file was ignored: it is not a regular file")
    with os.fdopen(fd, "rb") as file:
        raw = file.read(RESULT_BYTES_MAX + 1)
    if len(raw) > RESULT_BYTES_MAX:
        return Said(fault=f"the result file was ignored: it is larger than {RESULT_BYTES_MAX} bytes")
    return _parse(raw)


def _parse(raw: bytes) -> Said:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return Said(fault="the result file was ignored: it is not JSON")
    if not isinstance(value, dict):
        return Said(fault="the result file was ignored: it is not a JSON object")
    name = value.get("status", "finished")
    status = _STATUSES.get(name) if isinstance(name, str) else None
    if status is None:
        return Said(fault=f"the result file was ignored: its status is not one of {', '.join(_STATUSES)}")
    detail = value.get("detail", "")
    try:
        text = detail if isinstance(detail, str) else json.dumps(detail)
    except RecursionError:  # writing goes less deep than reading
        return Said(fault="the result file was ignored: its detail is nested too deep")
    return Said(status=status, detail=_short(text), usage=_usage(value.get("usage")))


def _usage(value: object) -> Mapping[str, float]:
    if not isinstance(value, dict):
        return {}
    numbers = {
        clean(str(name))[:64]: float(number)
        for name, number in list(value.items())[:_USAGE_KEYS_MAX]
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e15
    }
    return {name: number for name, number in numbers.items() if math.isfinite(number) and number >= 0}


def judge_run(done: Completed, said: Said) -> AgentResult:
    """How the process ended comes first, then what the agent said, then its exit code."""
    status, detail = _status(done, said)
    return AgentResult(
        status=status,
        detail=_short("; ".join(filter(None, (detail, said.fault)))),
        exit_code=done.exit_code,
        output=done.output,
        output_bytes=done.output_bytes,
        usage=said.usage,
    )


def _status(done: Completed, said: Said) -> tuple[AgentStatus, str]:
    if done.stop is not Stop.EXITED:
        return _STOPS[done.stop]
    if said.status is AgentStatus.NO_CHANGE_NEEDED and done.exit_code != 0:
        return AgentStatus.FAILED, f"it said that no change is needed, but ended with {done.exit_code}"
    if said.status is not None and (said.status is not AgentStatus.FINISHED or done.exit_code == 0):
        return said.status, said.detail or _last_line(done.output)
    if done.exit_code != 0:
        return AgentStatus.FAILED, f"it ended with {done.exit_code}: {_last_line(done.output)}".rstrip(": ")
    return AgentStatus.FINISHED, _last_line(done.output)


def _last_line(output: str) -> str:
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    return bounded(last.strip(), bytes_max=_LAST_LINE_BYTES_MAX)


def _short(text: str) -> str:
    return bounded(clean(text), bytes_max=DETAIL_BYTES_MAX)
