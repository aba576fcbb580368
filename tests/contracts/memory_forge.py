"""A forge in memory, for tests of the engine; it passes the same contract as the real ones."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tamma.core.change import Change, ChangeDraft, ChangeState
from tamma.core.errors import NoSuchTask, PermanentError
from tamma.core.ids import IssueRef
from tamma.core.issue import Comment, Issue, IssueState
from tamma.core.policy import Order, SelectionPolicy
from tamma.core.selection import rank
from tamma.ports.forge import IssuePage, Malformed
from tamma.ports.workspace import Remote

_LIVE = (ChangeState.OPEN, ChangeState.DRAFT)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryForge:
    """The port's calls first, then what other people do there."""

    def __init__(self, *, name: str = "memory", user: str = "tamma", repositories: Sequence[str] = ("demo",)) -> None:
        self._name = name
        self._user = user
        self._remotes = [Remote(name=r, url=f"memory:{r}") for r in sorted(repositories)]
        self._lock = threading.RLock()
        self._issues: dict[IssueRef, Issue] = {}
        self._comments: dict[IssueRef, list[Comment]] = {}
        self._broken: dict[IssueRef, str] = {}
        self._changes: list[Change] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def user(self) -> str:
        return self._user

    def repositories(self) -> Sequence[Remote]:
        return self._remotes

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
        with self._lock:
            here = [i for i in self._issues.values() if i.ref.repository == repository and i.ref not in self._broken]
            here = list(rank(here, SelectionPolicy(order=order, priority_prefix=priority_prefix)))
            begin = next((n for n, i in enumerate(here, 1) if i.ref.number == after), 0)
            asked = [i for i in here[begin:] if i.state is IssueState.OPEN and label.lower() in i.labels]
            broken = [Malformed(ref=r, why=w) for r, w in self._broken.items() if r.repository == repository]
            issues = tuple(self.issue(i.ref) for i in asked[:limit])
            goes_on = asked[limit - 1].ref.number if len(asked) > limit else None
            return IssuePage(issues=issues, malformed=() if begin else tuple(broken[:limit]), next=goes_on)

    def issue(self, ref: IssueRef) -> Issue:
        with self._lock:
            issue = self._readable(ref)
            return replace(issue, blocked_by=tuple(n for n in issue.blocked_by if self._blocks(replace(ref, number=n))))

    def comments(self, ref: IssueRef) -> Sequence[Comment]:
        with self._lock:
            self._readable(ref)
            return tuple(self._comments[ref])

    def comment(self, ref: IssueRef, *, marker: str, body: str) -> Comment:
        with self._lock:
            for comment in self.comments(ref):
                if comment.author == self.user and marker in comment.body:
                    return comment
            return self.add_comment(ref, author=self.user, body=body if marker in body else f"{body}\n\n{marker}")

    def change_labels(self, ref: IssueRef, *, add: Collection[str], remove: Collection[str]) -> None:
        with self._lock:
            issue = self._readable(ref)
            labels = (issue.labels | {label.lower() for label in add}) - {label.lower() for label in remove}
            self._issues[ref] = replace(issue, labels=labels)

    def changes(self, repository: str, *, head: str) -> Sequence[Change]:
        with self._lock:
            return [c for c in reversed(self._changes) if (c.repository, c.head) == (repository, head)]

    def changes_of(self, repository: str, *, heads: Collection[str]) -> Mapping[str, Sequence[Change] | Malformed]:
        with self._lock:
            return {head: self.changes(repository, head=head) for head in heads}

    def count_open_changes(self, repository: str) -> int:
        with self._lock:
            ours = [c for c in self._changes if c.repository == repository and c.author == self.user]
            return sum(c.state in _LIVE for c in ours)

    def open_change(self, draft: ChangeDraft) -> Change:
        with self._lock:
            same = [
                c for c in self.changes(draft.repository, head=draft.head) if c.base == draft.base and c.state in _LIVE
            ]
            if any(c.author != self.user for c in same):
                raise PermanentError(f"{draft.head} has an open change of somebody else")
            if not same:
                return self.add_change(draft, author=self.user)
            self.set_change(same[0].id, title=draft.title, body=draft.body)
            return self._changes[int(same[0].id) - 1]

    # -- other people

    def add_issue(
        self,
        *,
        repository: str = "demo",
        title: str = "A title",
        body: str = "A body",
        labels: Collection[str] = ("tamma",),
        author: str = "reporter",
        assignees: Sequence[str] = (),
        blocked_by: Sequence[str] = (),
        created_at: datetime | None = None,
    ) -> IssueRef:
        """Somebody opens an issue; numbers and, unless told, dates ascend."""
        with self._lock:
            number = len(self._comments) + 1
            ref = IssueRef(forge=self.name, repository=repository, number=str(number))
            self._comments[ref] = []
            self._issues[ref] = Issue(
                ref=ref, title=title, body=body, author=author, labels=frozenset(label.lower() for label in labels),
                assignees=tuple(assignees), blocked_by=tuple(blocked_by),
                created_at=created_at or _BEGIN + timedelta(minutes=number),
            )  # fmt: skip
            return ref

    def set_issue(
        self, ref: IssueRef, *, title: str | None = None, body: str | None = None, state: IssueState | None = None
    ) -> None:
        """Somebody edits, closes or opens it again."""
        with self._lock:
            old = self._issues[ref]
            self._issues[ref] = replace(
                old,
                title=old.title if title is None else title,
                body=old.body if body is None else body,
                state=state or old.state,
            )

    def delete_issue(self, ref: IssueRef) -> None:
        """It is not there any more; its number stays taken."""
        with self._lock:
            del self._issues[ref]

    def break_issue(self, ref: IssueRef, *, why: str = "broken by hand") -> None:
        """It cannot be read any more."""
        with self._lock:
            self._broken[ref] = why

    def add_comment(self, ref: IssueRef, *, author: str, body: str) -> Comment:
        """Somebody says something."""
        with self._lock:
            comments = self._comments[ref]
            comments.append(Comment(id=str(len(comments) + 1), author=author, body=body))
            return comments[-1]

    def add_change(self, draft: ChangeDraft, *, author: str) -> Change:
        """Somebody opens a change."""
        with self._lock:
            state = ChangeState.DRAFT if draft.is_draft else ChangeState.OPEN
            number = str(len(self._changes) + 1)
            change = Change(
                id=number, repository=draft.repository, head=draft.head, base=draft.base, title=draft.title,
                body=draft.body, author=author, state=state, issue=draft.issue, url=f"memory:{draft.repository}/{number}",
            )  # fmt: skip
            self._changes.append(change)
            return change

    def set_change(
        self, number: str, *, title: str | None = None, body: str | None = None, state: ChangeState | None = None
    ) -> None:
        """Somebody edits, merges or closes it."""
        with self._lock:
            old = self._changes[int(number) - 1]
            self._changes[int(number) - 1] = replace(
                old,
                title=old.title if title is None else title,
                body=old.body if body is None else body,
                state=state or old.state,
            )

    def _readable(self, ref: IssueRef) -> Issue:
        if ref not in self._issues:
            raise NoSuchTask(f"no issue {ref}")
        if ref in self._broken:
            raise PermanentError(f"issue {ref} cannot be read", why=self._broken[ref])
        return self._issues[ref]

    def _blocks(self, ref: IssueRef) -> bool:
        return ref in self._issues and (ref in self._broken or self._issues[ref].state is IssueState.OPEN)
