"""The forge: where issues come from and changes go to. Each call may be repeated; each write is find-or-create."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tamma.core.change import Change, ChangeDraft
from tamma.core.ids import IssueRef
from tamma.core.issue import Comment, Issue
from tamma.core.policy import Order
from tamma.ports.workspace import Remote


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """An issue, or a change (named in words), that could not be read: skipped and reported, never an error for the others."""

    ref: IssueRef | str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuePage:
    """A bounded list of open issues that carry the asked label, in the asked order; ``next`` is where to go on, None at the end.

    ``malformed`` are told with the first page, at most as many as were asked for, and those of a later page with it.
    """

    issues: tuple[Issue, ...]
    malformed: tuple[Malformed, ...] = ()
    next: str | None = None


class Forge(Protocol):
    """Each call raises TransientError when the forge is away or answers what cannot be understood, with ``retry_after`` where it
    says how long to leave it alone; a write may have had its effect then. Writes are by our own user, and only these."""

    @property
    def name(self) -> str:
        """Part of every issue's address; stable."""
        ...

    @property
    def user(self) -> str:
        """Who we are there: only what this user wrote counts as ours."""
        ...

    def repositories(self) -> Sequence[Remote]:
        """Those we serve, by name."""
        ...

    def open_issues(
        self,
        repository: str,
        *,
        label: str,
        limit: int,
        after: str | None = None,
        order: Order = Order.OLDEST,
        priority_prefix: str = "",
    ) -> IssuePage:
        """Open issues with ``label`` (compared in lower case), at most ``limit``, from the beginning or behind an earlier page.

        ``order`` holds over all pages; for that by priority, see ``selection.priority_in``. Page by page every issue comes that
        was open all the while and kept its labels. A place that is no more begins anew.
        """
        ...

    def issue(self, ref: IssueRef) -> Issue:
        """One issue, whatever its state. Raises NoSuchTask if there is none, PermanentError if it cannot be read."""
        ...

    def comments(self, ref: IssueRef) -> Sequence[Comment]:
        """All comments, oldest first."""
        ...

    def comment(self, ref: IssueRef, *, marker: str, body: str) -> Comment:
        """Create our comment holding ``marker``, unless one by our own user holds it already: then that one, unchanged."""
        ...

    def change_labels(self, ref: IssueRef, *, add: Collection[str], remove: Collection[str]) -> None:
        """Set-style: adding what is there and removing what is not are no-ops."""
        ...

    def changes(self, repository: str, *, head: str) -> Sequence[Change]:
        """Changes from branch ``head``, any state, newest first. Raises PermanentError where one that cannot be read may be of
        that branch; others that cannot be read are skipped, and told as malformed by ``open_issues``."""
        ...

    def changes_of(self, repository: str, *, heads: Collection[str]) -> Mapping[str, Sequence[Change] | Malformed]:
        """As ``changes`` for each of the branches, at the price of one question; where that raises PermanentError, what cannot
        be read."""
        ...

    def count_open_changes(self, repository: str) -> int:
        """Open or draft changes by our own user."""
        ...

    def open_change(self, draft: ChangeDraft) -> Change:
        """Open a change, unless one is open for the same head and base: then that one, with title and body made ours if our own
        user wrote it. Raises PermanentError if an open one is somebody else's."""
        ...
