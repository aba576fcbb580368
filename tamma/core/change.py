"""What is delivered: a branch and its pull request, and the marks by which we know our own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from tamma.core.ids import IssueRef, Oid, TaskId

# What README and `tamma init` call the forge's repository in a person's checkout.
REMOTE: Final = "tamma"
_MARKER: Final = re.compile(
    r"<!-- tamma:(?P<what>[a-z]+) task=(?P<task>[0-9a-f-]{36})(?: head=(?P<head>[0-9a-f]{40,64}))? -->"
)


@unique
class ChangeState(StrEnum):
    """A change's life on the forge."""

    DRAFT = "draft"
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A pull request as the forge tells it; ``author`` is what the forge vouches for."""

    id: str
    repository: str
    head: str
    base: str
    title: str
    body: str
    author: str
    state: ChangeState
    issue: IssueRef | None = None
    url: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it waits for a human's decision."""
        return self.state in (ChangeState.OPEN, ChangeState.DRAFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDraft:
    """A pull request to open: one per (head, base)."""

    repository: str
    head: str
    base: str
    title: str
    body: str
    issue: IssueRef
    is_draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A hidden line in what we write on a forge; believed only where the author is our own user."""

    what: str
    task: TaskId
    head: Oid | None = None

    def __str__(self) -> str:
        """The HTML comment that carries it."""
        head = f" head={self.head}" if self.head else ""
        return f"<!-- tamma:{self.what} task={self.task}{head} -->"


def find_markers(text: str) -> tuple[Marker, ...]:
    """Every marker in a text, in order; the caller must first have checked who wrote it."""
    return tuple(
        Marker(what=m["what"], task=TaskId(m["task"]), head=Oid(m["head"]) if m["head"] else None)
        for m in _MARKER.finditer(text)
    )


def notice_marker(task: TaskId, *, notice: str, epoch: int | None) -> str:
    """The hidden line of a comment that tells an issue what became of its task; the comment's natural key.

    ``epoch`` where a task may say the same again after another attempt. The end of a task is told once, whichever attempt
    came to it: also by a database that was restored to an older state.
    """
    asked_by = "" if epoch is None else f" epoch={epoch}"
    return f"<!-- tamma:notice={notice} task={task}{asked_by} -->"
