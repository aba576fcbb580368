"""Any forge, with something done around each of its calls: fail points for tests, leaving it alone where it asks for that, and
asking once more what only reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from tamma.core.change import Change, ChangeDraft
from tamma.core.errors import TransientError
from tamma.core.ids import IssueRef
from tamma.core.issue import Comment, Issue
from tamma.core.policy import ASKED_WAIT_MAX, Order
from tamma.ports.forge import Forge, IssuePage, Malformed
from tamma.ports.system import Chance, Clock, FailPoints
from tamma.ports.workspace import Remote

CALLS: Final = (
    "open_issues", "issue", "comments", "comment", "change_labels", "changes", "changes_of", "count_open_changes",
    "open_change",
)  # fmt: skip
# Not in engine.failpoints: these are about what the forge answers, not about where a process may die.
FORGE_POINTS: Final = frozenset(f"forge.{call}.{moment}" for call in CALLS for moment in ("before", "after"))
READS: Final = frozenset({"open_issues", "issue", "comments", "changes", "changes_of", "count_open_changes"})
TRIES_MAX: Final = 3
PATIENCE_SECONDS: Final = 5.0
_FIRST_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.1


T = TypeVar("T")


class Around(Protocol):
    """What is done around a call."""

    def __call__(self, call: str, ask: Callable[[], T], /) -> T:
        """What ``ask`` returns, which makes the call of this name; what is raised after it fails a call that had its effect."""
        ...


class ForgeAround:
    """See ``ports.forge.Forge``."""

    def __init__(self, forge: Forge, around: Around) -> None:
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
        """Around it."""
        return self._around(
            "open_issues",
            lambda: self._forge.open_issues(
                repository, label=label, limit=limit, after=after, order=order, priority_prefix=priority_prefix
            ),
        )

    def issue(self, ref: IssueRef) -> Issue:
        """Around it."""
        return self._around("issue", lambda: self._forge.issue(ref))

    def comments(self, ref: IssueRef) -> Sequence[Comment]:
        """Around it."""
        return self._around("comments", lambda: self._forge.comments(ref))

    def comment(self, ref: IssueRef, *, marker: str, body: str) -> Comment:
        """Around it."""
        return self._around("comment", lambda: self._forge.comment(ref, marker=marker, body=body))

    def change_labels(self, ref: IssueRef, *, add: Collection[str], remove: Collection[str]) -> None:
        """Around it."""
        self._around("change_labels", lambda: self._forge.change_labels(ref, add=add, remove=remove))

    def changes(self, repository: str, *, head: str) -> Sequence[Change]:
        """Around it."""
        return self._around("changes", lambda: self._forge.changes(repository, head=head))

    def changes_of(self, repository: str, *, heads: Collection[str]) -> Mapping[str, Sequence[Change] | Malformed]:
        """Around it."""
        return self._around("changes_of", lambda: self._forge.changes_of(repository, heads=heads))

    def count_open_changes(self, repository: str) -> int:
        """Around it."""
        return self._around("count_open_changes", lambda: self._forge.count_open_changes(repository))

    def open_change(self, draft: ChangeDraft) -> Change:
        """Around it."""
        return self._around("open_change", lambda: self._forge.open_change(draft))


class LeftAlone:
    """Around each call of one forge: once it named a time to wait, nobody in this process asks it before. The same error is
    raised instead, with the time that is left."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = 0.0
        self._said = TransientError("the forge wants to be left alone")

    def __call__(self, call: str, ask: Callable[[], T]) -> T:
        """Around one."""
        said, left = self._said, self._until - self._monotonic()
        if left > 0:
            raise TransientError(said.what, why=said.why, fix=said.fix, retry_after=timedelta(seconds=left))
        try:
            return ask()
        except TransientError as error:
            if error.retry_after is not None:
                wait = min(error.retry_after, ASKED_WAIT_MAX).total_seconds()
                self._until, self._said = self._monotonic() + wait, error
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAgain:
    """Around each call of an attempt: what only reads is asked up to three times while it is away, for some seconds in all.

    Another attempt by the queue costs a whole run of the agent; this is for an answer that was lost once. A write is not
    repeated here: it belongs right behind the proof of its lease.
    """

    clock: Clock
    chance: Chance
    should_stop: Callable[[], bool]

    def __call__(self, call: str, ask: Callable[[], T]) -> T:
        """Around one."""
        begun = self.clock.monotonic()
        for n in range(1, TRIES_MAX):
            try:
                return ask()
            except TransientError as error:
                asked = error.retry_after.total_seconds() if error.retry_after else 0.0
                wait = max(asked, _FIRST_SECONDS * 2 ** (n - 1) * (1 + self.chance.fraction()))
                is_too_late = self.clock.monotonic() - begun + wait > PATIENCE_SECONDS
                if call not in READS or is_too_late or self.should_stop():
                    raise
                self._pause(wait)
        return ask()

    def _pause(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0 and not self.should_stop():
            self.clock.pause(timedelta(seconds=min(left, _POLL_SECONDS)))


@dataclass(frozen=True, slots=True)
class AtFailPoints:
    """Around each call: its two places of ``FORGE_POINTS``."""

    points: FailPoints

    def __call__(self, call: str, ask: Callable[[], T]) -> T:
        """Around one."""
        self.points.reach(f"forge.{call}.before")
        answer = ask()
        self.points.reach(f"forge.{call}.after")
        return answer
