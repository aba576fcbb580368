"""What commands print: plain lines, tables for people, JSON for scripts. Text from outside is cleaned before it gets here."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tamma.core.event import Event, encode
from tamma.core.moment import local
from tamma.core.reconcile import Action, CallOff, Create, Dispatch, MarkOffline, Reap, Tell, Unreserve
from tamma.core.redact import clean
from tamma.core.tell import describe_fact, describe_notice

if TYPE_CHECKING:
    from tamma.core.errors import TammaError
    from tamma.engine.observer import Sighting

_CELL_WHOLE_MAX: Final = 16
_BREAKS: Final = re.compile(r"[\t\n\u2028\u2029]+")
_SEPARATORS: Final = re.compile(r"[\u2028\u2029]")


def print_lines(lines: Iterable[str]) -> None:
    """One line each, without control characters."""
    for line in lines:
        print(_SEPARATORS.sub(" ", clean(line)))  # noqa: T201 — this is the output


def print_json(value: Any) -> None:
    """One JSON document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=not _takes_unicode(), default=_plain)
    print()  # noqa: T201 — this is the output


def _takes_unicode() -> bool:
    """Whether the output has every character; else JSON's own escapes are for those it lacks."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _plain(value: object) -> str:
    """What JSON has no form for: a moment as everywhere else, anything else as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(rows: Sequence[Sequence[str]], *, head: Sequence[str]) -> None:
    """A table that fits a terminal, or tab-separated values in a pipe: each row one line, each cell one value."""
    rows = [[_BREAKS.sub(" ", clean(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print_lines("\t".join(row) for row in [head, *rows])
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    # NO_COLOR takes rich's colours away, but not its bold.
    table = Table(box=None, header_style="" if console.no_color else "bold", pad_edge=False)
    for name, *cells in zip(head, *rows, strict=True):
        table.add_column(name, overflow="fold", no_wrap=all(len(cell) <= _CELL_WHOLE_MAX for cell in cells))
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def print_folded(line: str, *, by: int = 0) -> None:
    """A line; on a terminal folded between words, what follows set in. A word that is wider than the terminal stays whole."""
    text = clean(line)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(
            part
            for whole in text.split("\n")
            for part in textwrap.wrap(
                whole, width, subsequent_indent=" " * by, break_long_words=False, break_on_hyphens=False
            )
        )
    print(text)  # noqa: T201 — this is the output


def print_settings(settings: Sequence[tuple[str, str, str]]) -> None:
    """Key, value and origin: folded for a terminal, where no table of them fits; tab-separated values in a pipe."""
    if not sys.stdout.isatty():
        print_table(settings, head=("setting", "value", "from"))
        return
    for key, value, origin in settings:
        print_folded(f"{key} = {_BREAKS.sub(' ', value)}  ({origin})", by=4)


def event_line(event: Event) -> str:
    """One event for a person: time, whose it is, what happened."""
    where = next((tag.removeprefix("issue:") for tag in event.tags if tag.startswith("issue:")), event.stream)
    return clean(f"{local(event.at)} {where.partition('/')[2] or where} {describe_fact(event.fact)}").replace("\n", " ")


def event_json(event: Event) -> str:
    """One event for a script, on one line."""
    return json.dumps(
        {
            "position": event.position,
            "stream": event.stream,
            "version": event.version,
            "at": event.at.isoformat(),
            "type": event.fact.TYPE,
            "correlation": event.correlation,
            "tags": list(event.tags),
            "data": encode(event.fact),
        },
        ensure_ascii=not _takes_unicode(),
        default=_plain,
    )


def look_values(sighting: Sighting, actions: Iterable[Action], troubles: Mapping[str, TammaError]) -> dict[str, Any]:
    """A dry run as values: what the tick would do, what it would leave alone and why, and whose agents cannot be started."""
    return {
        "actions": [action_line(action, as_json=True) for action in actions],
        "not_selected": [
            {
                "issue": str(prospect.issue.ref),
                "title": prospect.issue.title,
                "reasons": [{"why": r.why.value, "text": r.text, "fix": r.fix} for r in prospect.against],
            }
            for prospect in sighting.view.prospects
            if prospect.against
        ],
        "malformed": [{"issue": str(bad.ref), "why": bad.why} for bad in sighting.malformed],
        "away": [{"what": str(what), "why": why} for what, why in (*sighting.away, *sighting.unread)],
        "agents": [{"repository": name, "why": str(e), "fix": e.fix} for name, e in troubles.items()],
    }


def action_line(action: Action, *, as_json: bool = False) -> str | dict[str, Any]:
    """What a tick does, in words or as values."""
    match action:
        case Reap(task=task, decision=decision):
            values = {
                "action": "reap",
                "task": task.id,
                "issue": str(task.ref),
                "attempt": task.epoch,
                "to": decision.to.value,
            }
            words = f"reap {task.ref}: attempt {task.epoch} gave no word and its lease is over; the task becomes {decision.to}"
        case Unreserve(task_id=task_id):
            values = {"action": "unreserve", "task": task_id}
            words = f"give back the slot of task {task_id}: its worker never came"
        case MarkOffline(worker=worker):
            values = {"action": "mark-offline", "worker": worker}
            words = f"mark worker {worker} offline: it missed its beats"
        case CallOff(task=task, reason=reason):
            values = {"action": "cancel", "task": task.id, "issue": str(task.ref), "reason": reason}
            words = f"cancel {task.ref}: {reason}"
        case Tell(task=task, notice=notice):
            values = {"action": "tell", "task": task.id, "issue": str(task.ref), "notice": notice.value}
            words = f"tell {task.ref} that its task {describe_notice(notice)}"
        case Create(issue=issue, generation=generation):
            values = {"action": "create", "task": action.task_id, "issue": str(issue.ref), "generation": generation}
            words = f"create task {action.task_id} for {issue.ref}: {issue.title}"
        case Dispatch(task_id=task_id, ref=ref):
            values = {"action": "dispatch", "task": task_id, "issue": str(ref)}
            words = f"dispatch {ref}: start a worker on task {task_id}"
    return values if as_json else words
