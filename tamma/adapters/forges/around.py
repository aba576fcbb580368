"""Any forge, with something done around each of its calls: fail points for tests, and leaving it alone where it asks for that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Final

from tamma.core.change import Change, ChangeDraft
from tamma.core.errors import TransientError
from tamma.core.ids import IssueRef
from tamma.core.issue import Comment, Issue
from tamma.core.policy import ASKED_WAIT_MAX
from tamma.ports.forge import Forge, IssuePage
from tamma.ports.system import FailPoints
from tamma.ports.workspace import Remote

CALLS: Final = (
    "open_issues", "issue", "comments", "comment", "change_labels", "changes", "count_open_changes", "open_change",
)  # fmt: skip
# Not in engine.failpoints: these are about what the forge answers, not about where a process may die.
FORGE_POINTS: Final = frozenset(f"forge.{call}.{moment}" for call in CALLS for moment in ("before", "after"))


class ForgeAround:
    """See ``ports.forge.Forge``. ``around`` gets the name of each call; what it raises after the call fails a call that had
    its effect."""

    def __init__(self, forge: Forge, around: Callable[[str], AbstractContextManager[None]]) -> None:
        self._forge = forge
        self._around = around

    @property
    def name(self) -> str:
        """The forge's."""
        return self._forge.name

    @property
    def user(self) -> str:
        """The forge's."""
        return self._forge.user

    def repositories(self) -> Sequence[Remote]:
        """Known without asking."""
        return self._forge.repositories()

    def open_issues(self, repository: str, *, label: str, limit: int, after: str | None = None) -> IssuePage:
        """Around it."""
        with self._around("open_issues"):
            return self._forge.open_issues(repository, label=label, limit=limit, after=after)

    def issue(self, ref: IssueRef) -> Issue:
        """Around it."""
        with self._around("issue"):
            return self._forge.issue(ref)

    def comments(self, ref: IssueRef) -> Sequence[Comment]:
        """Around it."""
        with self._around("comments"):
            return self._forge.comments(ref)

    def comment(self, ref: IssueRef, *, marker: str, body: str) -> Comment:
        """Around it."""
        with self._around("comment"):
            return self._forge.comment(ref, marker=marker, body=body)

    def change_labels(self, ref: IssueRef, *, add: Collection[str], remove: Collection[str]) -> None:
        """Around it."""
        with self._around("change_labels"):
            self._forge.change_labels(ref, add=add, remove=remove)

    def changes(self, repository: str, *, head: str) -> Sequence[Change]:
        """Around it."""
        with self._around("changes"):
            return self._forge.changes(repository, head=head)

    def count_open_changes(self, repository: str) -> int:
        """Around it."""
        with self._around("count_open_changes"):
            return self._forge.count_open_changes(repository)

    def open_change(self, draft: ChangeDraft) -> Change:
        """Around it."""
        with self._around("open_change"):
            return self._forge.open_change(draft)


class LeftAlone:
    """Around each call of one forge: once it named a time to wait, nobody in this process asks it before. The same error is
    raised instead, with the time that is left."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = 0.0
        self._said = TransientError("the forge wants to be left alone")

    @contextmanager
    def __call__(self, call: str) -> Iterator[None]:
        """Around one."""
        said, left = self._said, self._until - self._monotonic()
        if left > 0:
            raise TransientError(said.what, why=said.why, fix=said.fix, retry_after=timedelta(seconds=left))
        try:
            yield
        except TransientError as error:
            if error.retry_after is not None:
                wait = min(error.retry_after, ASKED_WAIT_MAX).total_seconds()
                self._until, self._said = self._monotonic() + wait, error
            raise


def at_fail_points(points: FailPoints) -> Callable[[str], AbstractContextManager[None]]:
    """Around each call: its two places of ``FORGE_POINTS``."""

    @contextmanager
    def around(call: str) -> Iterator[None]:
        points.reach(f"forge.{call}.before")
        yield
        points.reach(f"forge.{call}.after")

    return around
