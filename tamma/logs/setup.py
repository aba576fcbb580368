"""Log lines on stderr: text for people or JSON for machines, redacted, by loguru; and events as log lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Final, TextIO

from tamma.core.event import (
    AgentFinished,
    AgentSpoke,
    AgentStarted,
    ApprovalAsked,
    ChangeDelivered,
    EffectIntended,
    EffectRecorded,
    EnvironmentPrepared,
    Event,
    Fact,
    GateJudged,
    LogArchived,
    NoticeSent,
    PhaseEntered,
    TaskCancelled,
    TaskClaimed,
    TaskCreated,
    TaskDispatched,
    TaskReaped,
    TaskSettled,
    TaskUnblocked,
    TreeAudited,
    WorkerRegistered,
    WorkerStateChanged,
    WorkPaused,
    WorkResumed,
    WorkSalvaged,
)
from tamma.core.ids import CorrelationId, WorkerId
from tamma.core.moment import local
from tamma.core.redact import Redactor, clean
from tamma.core.tell import describe_fact

if TYPE_CHECKING:
    from loguru import Message, Record

FIELDS: Final = ("correlation", "task", "worker", "epoch")
_COLORS: Final[Mapping[str, str]] = {
    "DEBUG": "\x1b[2m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[31m",
}


def set_up(
    *,
    level: str = "info",
    as_json: bool = False,
    redactor: Redactor | None = None,
    no_color: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send log lines to ``stream`` (stderr), replacing what was set up before.

    Nothing of a traceback's local variables is ever shown: they hold secrets.
    """
    from loguru import logger

    mask = redactor or Redactor()
    out = stream or sys.stderr
    is_colored = not (no_color or as_json) and out.isatty()

    def redact(record: Record) -> None:
        error = record["exception"]
        cause = f" ({getattr(error.type, '__name__', '')}: {error.value})" if error else ""
        record["message"] = clean(mask(record["message"] + cause))
        record["extra"] = {
            key: clean(mask(value)) if isinstance(value, str) else value for key, value in record["extra"].items()
        }

    def write(message: Message) -> None:
        line = _json_line(message.record) if as_json else _text_line(message.record, is_colored=is_colored)
        out.write(line + "\n")
        out.flush()

    logger.remove()
    logger.configure(patcher=redact)
    logger.add(
        write, level=level.upper(), format="{message}", backtrace=False, diagnose=False, colorize=False, catch=True
    )


def warn(message: str) -> None:
    """What is no event, but somebody should know."""
    from loguru import logger

    logger.warning("{}", message)


def log_event(event: Event) -> None:
    """One event as one line."""
    log_fact(event.fact, stream=event.stream, correlation=event.correlation)


def log_fact(fact: Fact, *, stream: str, correlation: CorrelationId | None, worker: WorkerId | None = None) -> None:
    """One fact as one line, under its stable action name (the event's type). ``worker`` is whose fact it is, where known."""
    from loguru import logger

    kind, _, name = stream.partition(":")
    logger.bind(
        event=fact.TYPE,
        correlation=correlation,
        task=name if kind == "task" else None,
        worker=getattr(fact, "worker", name if kind == "worker" else worker),
        epoch=getattr(fact, "epoch", None),
    ).log(level_of(fact), "{}", describe_fact(fact))


def level_of(fact: Fact) -> str:
    """How loud a fact is: what a human may have to act on is a warning."""
    match fact:
        case AgentSpoke() | EffectIntended() | EffectRecorded() | PhaseEntered() | TaskDispatched() | NoticeSent():
            return "DEBUG"
        case TaskReaped() | ApprovalAsked() | WorkSalvaged():
            return "WARNING"
        case TaskSettled(state=state):
            return {"failed": "ERROR", "blocked": "WARNING", "retryable": "WARNING"}.get(state, "INFO")
        case GateJudged(verdict=verdict):
            return "WARNING" if verdict in ("fail", "unable") else "INFO"
        case TreeAudited(refusals=refusals):
            return "WARNING" if refusals else "INFO"
        case WorkerStateChanged(state=state):
            return "WARNING" if state == "offline" else "INFO"
        case (
            TaskCreated()
            | TaskClaimed()
            | TaskCancelled()
            | TaskUnblocked()
            | EnvironmentPrepared()
            | AgentStarted()
            | AgentFinished()
        ):
            return "INFO"
        case ChangeDelivered() | WorkerRegistered() | WorkResumed() | LogArchived():
            return "INFO"
        case WorkPaused():
            return "WARNING"


def _text_line(record: Record, *, is_colored: bool) -> str:
    extra, level = record["extra"], record["level"].name
    where = str(extra.get("task") or extra.get("worker") or "")[:8]
    loud = "" if level == "INFO" else f"{level.lower()}:"
    # As a line of `tamma events`, with which it may share a screen.
    line = " ".join(part for part in (local(record["time"]), where, loud, *record["message"].splitlines()) if part)
    color = _COLORS.get(level) if is_colored else None
    return f"{color}{line}\x1b[0m" if color else line


def _json_line(record: Record) -> str:
    extra = record["extra"]
    values = {
        "time": record["time"].astimezone(UTC).isoformat(),
        "level": record["level"].name.lower(),
        "event": extra.get("event", "LOG"),
        "message": record["message"],
        **{name: extra.get(name) for name in FIELDS},
    }
    return json.dumps(values, ensure_ascii=False, default=str)
