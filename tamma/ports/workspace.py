"""The checkout an attempt works in, and the trusted repository behind it.

Everything here runs git with a trusted GIT_DIR outside the workspace; nothing in the agent's tree can configure git, run
a hook or redirect a push (SECURITY finding 1, RECIPES "Workspace and trusted git").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Protocol

from tamma.core.errors import PermanentError
from tamma.core.ids import Oid, TaskId


class WorkspaceRemoved(PermanentError):
    """The attempt's folders are gone while it runs: what worked in them, the agent above all, removed them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where a repository lives, from Tamma's own configuration; ``name`` is safe as a folder name."""

    name: str
    url: str
    base_branch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The commit that attempts start from."""

    branch: str
    commit: Oid
    tree: Oid


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """One path of a diff. ``status`` is git's letter (A, M, D, T); modes are octal strings, ``000000`` for absent."""

    path: str
    status: str
    old_mode: str
    new_mode: str
    lines_added: int
    lines_removed: int
    bytes: int
    is_binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A tree read from the workspace, committed on ``base`` in the trusted repository.

    ``refusals`` is the tree audit's word (SECURITY C5), a sentence each; not empty means: do not deliver. ``patch`` is the
    binary-safe ``git apply``-able difference to the base.
    """

    base: Oid
    commit: Oid
    tree: Oid
    changes: tuple[PathChange, ...]
    patch: bytes
    refusals: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """No difference to the base."""
        return not self.changes and not self.refusals

    @property
    def lines(self) -> int:
        """Added and removed."""
        return sum(c.lines_added + c.lines_removed for c in self.changes)


@unique
class PushResult(StrEnum):
    """What a push came to."""

    MOVED = "moved"
    ALREADY_THERE = "already there"
    REJECTED = "rejected"


class Workspace(Protocol):
    """One attempt's checkout of the base commit, and what may be asked of it. Poison once an agent has run in it."""

    @property
    def folder(self) -> Path:
        """The checkout; its ``.git`` is a disposable one for the agent, never read by us."""
        ...

    @property
    def scratch(self) -> Path:
        """A private folder beside it, removed with it."""
        ...

    @property
    def base(self) -> Base:
        """What it was made from."""
        ...

    def capture(self, *, message: str) -> Candidate:
        """Read the tree by our own walk, audit it, commit it on the base with a fixed author, committer and date.

        The same tree, message and base always give the same commit. Files ignored by the base's rules, bytecode and tool
        caches stay out unless the base tracks them.
        """
        ...

    def restore(self, commit: Oid) -> Candidate:
        """Put the checkout at a commit captured earlier (an approved one). Raises PermanentError if it is gone."""
        ...

    def checkout(self, tree: Oid, *, name: str) -> AbstractContextManager[Path]:
        """A fresh folder with exactly ``tree``, no ``.git`` in it, removed afterwards; for gates."""
        ...

    def overlay(self, candidate: Candidate, *, paths: Sequence[str]) -> Oid:
        """The base's tree with the candidate's version of ``paths`` (deletions too)."""
        ...

    def push(self, commit: Oid, *, branch: str, expected: Oid | None) -> PushResult:
        """Push to ``refs/heads/<branch>`` of the remote's literal URL, only if it is at ``expected`` (None: absent).

        ``branch`` must satisfy ``is_safe_branch``. A rejection is an answer, not an error. Raises TransientError when the
        remote is away, PermanentError when it refuses for good.
        """
        ...

    def branch_head(self, branch: str) -> Oid | None:
        """Where the branch is on the remote now (``ls-remote``); None where it is not."""
        ...


class Workspaces(Protocol):
    """Opens workspaces."""

    def heed(self, should_stop: Callable[[], bool]) -> None:
        """Ask this, from now on, while git runs and while locks are waited for: once it is true, what is going on ends with
        TransientError, and nothing new begins."""
        ...

    def fetch_base(self, remote: Remote) -> Base:
        """Bring the mirror up to date and say where the base branch is. Raises PermanentError for a repository without
        commits or without the branch, TransientError when the remote is away."""
        ...

    def open(self, remote: Remote, base: Base, *, task_id: TaskId, epoch: int) -> AbstractContextManager[Workspace]:
        """A fresh checkout for one attempt, in a folder named after task and epoch; removed on leaving.

        What an attempt killed earlier left for the same task is removed first: call ``salvage`` before.
        """
        ...

    def salvage(self, remote: Remote, *, task_id: TaskId, epoch: int) -> tuple[Candidate, ...]:
        """What dead attempts of the task before ``epoch`` left uncommitted on this machine, oldest first.

        Each as a captured candidate, so that its ``patch`` can be kept before ``open`` removes the folder. An attempt that
        still lives, that changed nothing, or whose folder cannot be read any more, is left out. Removes nothing.
        """
        ...

    def leftovers(self) -> tuple[TaskId, ...]:
        """Tasks of which something lies on this machine: checkouts of attempts, dead ones too, and kept commits."""
        ...

    def discard(self, task_id: TaskId) -> None:
        """Remove what a task left here, its kept commit too. What an attempt that still lives works in stays."""
        ...

    def read_file(self, remote: Remote, commit: Oid, path: str) -> bytes | None:
        """One file of a commit from the mirror; None where there is none."""
        ...

    def keep(self, remote: Remote, commit: Oid, *, name: str) -> None:
        """Hold a captured commit in the mirror under ``refs/tamma/keep/<name>`` until somebody decides about it.

        Must be called while the workspace that captured it is open.
        """
        ...
