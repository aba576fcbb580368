"""Which task a person means: by its id, by the beginning of one, or by its issue."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from tamma.core.errors import ConfigError, NoSuchTask
from tamma.core.ids import IssueRef, TaskId, parse_task_id
from tamma.core.task import Task, TaskKind
from tamma.ports.store import Store

SHORT_ID_CHARS: Final = 8
PREFIX_CHARS_MIN: Final = 4
_PREFIX: Final = re.compile(rf"[0-9a-f-]{{{PREFIX_CHARS_MIN},36}}")
_CANDIDATES_MAX: Final = 10
_WAYS: Final = (
    "write its id, the first 4 or more characters of it, or REPOSITORY#NUMBER; `tamma status` lists the tasks"
)


def nothing_named(text: str) -> NoSuchTask:
    """Neither an issue nor a task has this name."""
    return NoSuchTask(f"{text!r} names neither an issue nor a task", fix=_WAYS)


def check_form(text: str) -> None:
    """Raises ConfigError for what can name no task, without asking anybody."""
    if not (_is_issue(text) or _PREFIX.fullmatch(text.lower())):
        raise ConfigError(f"{text!r} names no task", why="it is neither a task's id nor an issue", fix=_WAYS)


def _is_issue(text: str) -> bool:
    return "#" in text or (text.isdecimal() and len(text) < SHORT_ID_CHARS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """``parse_issue`` reads an issue as a person writes it, and raises ConfigError for anything else."""

    store: Store
    parse_issue: Callable[[str], IssueRef]

    def task_id(self, text: str) -> TaskId:
        """A task's id: a whole one as it is, unknown or not. Raises ConfigError for what names none or several, NoSuchTask."""
        check_form(text)
        found = self.named(text)
        if found is None:
            raise NoSuchTask(f"no task's id begins with {text!r}", fix=_WAYS)
        if not isinstance(found, IssueRef):
            return found
        newest = self.store.tasks.newest([found], TaskKind.RESOLVE).get(found)
        if newest is not None:
            return newest.id
        if (begun := self.beginning(text)) is not None:
            return begun
        raise NoSuchTask(f"issue {found} has no task", fix=f"`tamma explain {found}` tells why")

    def named(self, text: str) -> TaskId | IssueRef | None:
        """What is named: a task by its id or the beginning of one, or an issue; None where it could only be an issue's name.

        A short number alone is an issue rather than the beginning of an id. Raises ConfigError for the beginning of several ids.
        """
        if not _is_issue(text):
            return self.beginning(text)
        try:
            return self.parse_issue(text)
        except ConfigError:  # of several repositories no number alone is an issue
            if (begun := self.beginning(text)) is None:
                raise
            return begun

    def beginning(self, text: str) -> TaskId | None:
        """The task whose id this is or begins with, though an issue may have that number, too; None where none does. Raises
        ConfigError for the beginning of several ids."""
        digits = text.lower()
        if not _PREFIX.fullmatch(digits):
            return None
        if len(digits) == len("00000000-0000-0000-0000-000000000000"):
            return parse_task_id(digits)
        found = self.store.tasks.starting_with(digits, limit=_CANDIDATES_MAX + 1)
        if len(found) > 1:
            raise _ambiguous(text, found)
        return found[0].id if found else None


def _ambiguous(text: str, found: Collection[Task]) -> ConfigError:
    shown = [f"{task.id} {task.ref} {task.state}" for task in found][:_CANDIDATES_MAX]
    more = ["and more"] if len(found) > _CANDIDATES_MAX else []
    return ConfigError(
        f"{text!r} is the beginning of several ids", why="\n        ".join([*shown, *more]), fix="write more of it"
    )


def short_ids(ids: Collection[TaskId]) -> dict[TaskId, str]:
    """Each id cut to what tells it from the others, and no shorter than ``SHORT_ID_CHARS``."""
    length = SHORT_ID_CHARS
    while len({task_id[:length] for task_id in ids}) < len(set(ids)):
        length += 1
    return {task_id: task_id[:length] for task_id in ids}
