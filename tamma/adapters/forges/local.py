"""The forge ``local``: a bare repository, a folder of issue files and a folder of change files (docs/forge-local.md).

It trusts the file system: whoever can write the files can speak as anyone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from tamma.adapters.forges import document as documents
from tamma.adapters.forges.document import BadDocument, Document
from tamma.adapters.forges.folder import Folder, Found, Moved, Trouble, locked
from tamma.adapters.forges.records import (
    CHANGE_NAME,
    ISSUE_NAME,
    UNKNOWN,
    ChangeHead,
    IssueHead,
    change_document,
    change_head,
    comment_value,
    in_order,
    issue_comments,
    issue_head,
    issue_of,
    natural,
    title_of,
)
from tamma.core.change import Change, ChangeDraft, ChangeState
from tamma.core.errors import ConfigError, NoSuchTask, PermanentError, TransientError
from tamma.core.ids import BRANCH_PREFIX, IssueRef
from tamma.core.issue import Comment, Issue, IssueState
from tamma.core.policy import Order
from tamma.ports.forge import IssuePage, Malformed
from tamma.ports.workspace import Remote

# A line of its head that is there to its end, or one of our branches in any line.
_NAMES_A_BRANCH: Final = re.compile(rb"^head:.*\n|" + BRANCH_PREFIX.encode(), re.MULTILINE)
_TRIES_MAX: Final = 20
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
# A change numbered like this was put there by somebody; counting on from it would leave the names that are changes.
_STRAY_DIGITS: Final = 10
_SWAP_SECONDS_MAX: Final = 0.3
_LIVE: Final = (ChangeState.OPEN, ChangeState.DRAFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRepository:
    """One repository; ``lock`` is by default ``.lock`` beside the folder of the issues, never inside it."""

    name: str
    git_url: str
    issues: Path
    changes: Path
    base_branch: str | None = None
    lock: Path | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """A repository's two folders and its lock."""

    remote: Remote
    lock: Path
    issues: Folder[IssueHead]
    changes: Folder[ChangeHead]


class LocalForge:
    """See ``ports.forge.Forge``. Safe for any number of threads and processes on one machine."""

    def __init__(
        self,
        *,
        name: str,
        user: str,
        repositories: Sequence[LocalRepository],
        now: Callable[[], datetime] | None = None,
    ) -> None:
        if user in ("", UNKNOWN):
            raise ConfigError(
                f"forge.user cannot be {user!r}", why="files without an author count as that one's", fix="choose a name"
            )
        self._name = name
        self._user = user
        self._now = now or partial(datetime.now, UTC)
        self._places = {r.name: _place(r) for r in sorted(repositories, key=lambda r: r.name)}

    @property
    def name(self) -> str:
        """Part of every issue's address."""
        return self._name

    @property
    def user(self) -> str:
        """Whose writing counts as ours."""
        return self._user

    def repositories(self) -> Sequence[Remote]:
        """By name."""
        return [place.remote for place in self._places.values()]

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
        """Read from memory where the files did not change; only those returned are read again. A place is a number."""
        place = self._place(repository)
        heads = place.issues.extracts()
        names = sorted(heads, key=natural)
        readable = in_order({n: h for n in names if isinstance(h := heads[n], IssueHead)}, order, priority_prefix)
        begin = readable.index(after) + 1 if after in readable else 0
        malformed = [
            Malformed(ref=self._ref(place, n), why=t.why)
            for n in (names if begin == 0 else ())
            if isinstance(t := heads[n], Trouble)
        ]
        malformed += self._malformed_changes(place) if begin == 0 else []
        wanted = [n for n in readable[begin:] if isinstance(h := heads[n], IssueHead) and _is_asked(h, label)]
        issues: list[Issue] = []
        for number in wanted[:limit]:
            found = self._told(place, number, blockers=lambda n: _is_open(heads.get(n)))
            if isinstance(found, Trouble):
                malformed.append(Malformed(ref=self._ref(place, number), why=found.why))
            elif found is not None and found.state is IssueState.OPEN and label.lower() in found.labels:
                issues.append(found)
        goes_on = wanted[limit - 1] if len(wanted) > limit else None
        return IssuePage(issues=tuple(issues), malformed=tuple(malformed[:limit]), next=goes_on)

    def issue(self, ref: IssueRef) -> Issue:
        """Read anew; a blocker whose file cannot be read counts as still open. One that is not there is looked for again for a
        moment: editors and `git pull` take a file away before they put the new one in its place."""
        place = self._place(ref.repository)
        give_up_at = time.monotonic() + _SWAP_SECONDS_MAX
        while (found := self._told(place, ref.number, blockers=partial(_is_blocking, place.issues))) is None:
            if time.monotonic() >= give_up_at:
                raise _no_issue(ref)
            time.sleep(_SWAP_SECONDS_MAX / 10)
        if isinstance(found, Issue):
            return found
        raise _unreadable(ref, found)

    def comments(self, ref: IssueRef) -> Sequence[Comment]:
        """Those in the issue's front matter."""
        return self._comments(ref, self._found(ref).document)

    def comment(self, ref: IssueRef, *, marker: str, body: str) -> Comment:
        """Found or created under the repository's lock; a body without the marker gets it appended."""
        text = documents.clean(body if marker in body else f"{body}\n\n{marker}")
        written: list[Comment] = []

        def edit(document: Document) -> Document | None:
            comments = self._comments(ref, document)
            ours = next((c for c in comments if c.author == self.user and marker in c.body), None)
            number = 1 + max((int(c.id) for c in comments if _NUMBER.fullmatch(c.id)), default=0)
            fresh = Comment(
                id=str(max(number, len(comments) + 1)), author=self.user, body=text, created_at=self._stamp()
            )
            written[:] = [ours or fresh]
            return None if ours else documents.with_item(document, "comments", comment_value(fresh))

        self._edit_issue(ref, edit)
        return written[0]

    def change_labels(self, ref: IssueRef, *, add: Collection[str], remove: Collection[str]) -> None:
        """A file that needs no change is not touched."""
        added = sorted(_folded(add))
        removed = _folded(remove)

        def edit(document: Document) -> Document | None:
            old = issue_head(document).labels
            new = [label for label in dict.fromkeys([*old, *added]) if label not in removed]
            return None if new == list(old) else documents.with_value(document, "labels", [*new])

        self._edit_issue(ref, edit)

    def changes(self, repository: str, *, head: str) -> Sequence[Change]:
        """By number, highest first. Raises PermanentError for a broken change file that names the branch."""
        found = self.changes_of(repository, heads=[head])[head]
        if isinstance(found, Malformed):
            raise PermanentError("a change cannot be read", why=found.why, fix="correct the file, or move it elsewhere")
        return found

    def changes_of(self, repository: str, *, heads: Collection[str]) -> Mapping[str, Sequence[Change] | Malformed]:
        """The folder is looked through once, and the files of these branches are read. An editor that writes a file in place
        shows half of it for a moment, and nobody knows of which branch it is: TransientError then."""
        place = self._place(repository)
        extracts = place.changes.extracts()
        broken = [(name, head) for name, head in extracts.items() if isinstance(head, Trouble)]
        for _, trouble in broken:
            if not trouble.is_settled and not _NAMES_A_BRANCH.search(trouble.raw or b""):
                raise _being_written(trouble)
        names: dict[str, list[str]] = {head: [] for head in heads}
        for name, head in extracts.items():
            if isinstance(head, ChangeHead) and head.head in names:
                names[head.head].append(name)
        return {branch: self._changes_from(place, branch, of, broken) for branch, of in names.items()}

    def count_open_changes(self, repository: str) -> int:
        """Those whose author is our user; a file that cannot be read may be one, and counts."""
        heads = self._place(repository).changes.extracts().values()
        return sum(isinstance(h, Trouble) or (h.author == self.user and h.state in _LIVE) for h in heads)

    def open_change(self, draft: ChangeDraft) -> Change:
        """Found, updated or created under the repository's lock; an update leaves the rest of the file alone."""
        place = self._place(draft.repository)
        with locked(place.lock):
            for _ in range(_TRIES_MAX):
                live = [
                    c
                    for c in self.changes(draft.repository, head=draft.head)
                    if c.base == draft.base and c.state in _LIVE
                ]
                try:
                    name = self._updated(place, live[0], draft, live) if live else self._created(place, draft)
                except Moved:
                    continue
                if change := self._change(place, name):
                    return change
        raise _busy(place.changes.path)

    def _updated(self, place: _Place, ours: Change, draft: ChangeDraft, live: Sequence[Change]) -> str:
        if foreign := next((c for c in live if c.author != self.user), None):
            raise PermanentError(
                f"change {foreign.id} from {draft.head} to {draft.base} is open already",
                why=f"it was opened by {foreign.author!r}, not by {self.user!r}",
                fix=f"close it in {place.changes.file(foreign.id)}, or merge it",
            )
        found = place.changes.read(ours.id)
        if not isinstance(found, Found):
            raise Moved
        new = found.document
        if documents.clean(draft.title) != ours.title:
            new = documents.with_value(new, "title", documents.clean(draft.title))
        if documents.encoded(draft.body) != new.body:
            new = documents.with_body(new, draft.body)
        if new is not found.document:
            place.changes.replace(ours.id, new, seen=found.stamp)
        return ours.id

    def _created(self, place: _Place, draft: ChangeDraft) -> str:
        name = str(1 + max((int(n) for n in place.changes.names() if len(n) < _STRAY_DIGITS), default=0))
        if not place.changes.create(name, change_document(draft, author=self.user, created_at=self._stamp())):
            raise Moved
        return name

    def _changes_from(
        self, place: _Place, branch: str, names: Collection[str], broken: Collection[tuple[str, Trouble]]
    ) -> Sequence[Change] | Malformed:
        for name, trouble in broken:
            if _may_be_of(trouble, branch):
                return Malformed(ref=f"change {name} of {place.remote.name}", why=trouble.why)
        found = (self._change(place, name) for name in sorted(names, key=int, reverse=True))
        return [change for change in found if change is not None and change.head == branch]

    def _malformed_changes(self, place: _Place) -> list[Malformed]:
        heads = place.changes.extracts()
        return [
            Malformed(ref=f"change {n} of {place.remote.name}", why=t.why)
            for n in sorted(heads, key=int)
            if isinstance(t := heads[n], Trouble)
        ]

    def _change(self, place: _Place, name: str) -> Change | None:
        found = place.changes.read(name)
        if found is None:
            return None
        if isinstance(found, Trouble):
            raise _being_written(found)  # it was in order when it was listed
        try:
            head = change_head(found.document)
        except BadDocument as e:
            raise _being_written(place.changes.trouble(name, e)) from e
        repository = place.remote.name
        return Change(
            id=name, repository=repository, head=head.head, base=head.base, title=head.title, body=found.document.text,
            author=head.author, state=head.state, issue=issue_of(head.issue, forge=self.name, repository=repository),
            url=head.url or str(place.changes.file(name)),
        )  # fmt: skip

    def _told(self, place: _Place, number: str, *, blockers: Callable[[str], bool]) -> Issue | Trouble | None:
        found = place.issues.read(number)
        if not isinstance(found, Found):
            return found
        try:
            head = issue_head(found.document)
            title = title_of(head, found.document)
        except BadDocument as e:
            return place.issues.trouble(number, e)
        return Issue(
            ref=self._ref(place, number), title=title, body=found.document.text, author=head.author, state=head.state,
            labels=frozenset(head.labels), assignees=head.assignees, created_at=head.created_at,
            blocked_by=tuple(n for n in head.blocked_by if blockers(n)), url=str(place.issues.file(number)),
        )  # fmt: skip

    def _edit_issue(self, ref: IssueRef, edit: Callable[[Document], Document | None]) -> None:
        place = self._place(ref.repository)
        with locked(place.lock):
            for _ in range(_TRIES_MAX):
                found = self._found(ref)
                try:
                    new = edit(found.document)
                    if new is not None:
                        place.issues.replace(ref.number, new, seen=found.stamp)
                except Moved:
                    continue
                except BadDocument as e:
                    raise _unreadable(ref, place.issues.trouble(ref.number, e)) from e
                return
        raise _busy(place.issues.path)

    def _found(self, ref: IssueRef) -> Found:
        found = self._place(ref.repository).issues.read(ref.number)
        if isinstance(found, Found):
            return found
        raise _no_issue(ref) if found is None else _unreadable(ref, found)

    def _comments(self, ref: IssueRef, document: Document) -> Sequence[Comment]:
        try:
            return issue_comments(document)
        except BadDocument as e:
            raise _unreadable(ref, self._place(ref.repository).issues.trouble(ref.number, e)) from e

    def _place(self, repository: str) -> _Place:
        if repository in self._places:
            return self._places[repository]
        raise ConfigError(
            f"no repository {repository!r} on the forge {self.name!r}",
            why=f"configured are: {', '.join(self._places) or 'none'}",
            fix="add it to the configuration, or correct the name",
        )

    def _ref(self, place: _Place, number: str) -> IssueRef:
        return IssueRef(forge=self.name, repository=place.remote.name, number=number)

    def _stamp(self) -> datetime:
        return self._now().replace(microsecond=0)


def _place(repository: LocalRepository) -> _Place:
    return _Place(
        remote=Remote(name=repository.name, url=repository.git_url, base_branch=repository.base_branch),
        lock=repository.lock or repository.issues.parent / ".lock",
        issues=Folder(repository.issues, names=ISSUE_NAME, extract=issue_head),
        changes=Folder(repository.changes, names=CHANGE_NAME, extract=change_head),
    )


def _being_written(trouble: Trouble) -> TransientError:
    return TransientError("a change is being written", why=trouble.why, fix="try again in a moment")


def _may_be_of(trouble: Trouble, branch: str) -> bool:
    """Whether a change that cannot be read may be one from this branch: its text names it, or could not be looked at."""
    if trouble.raw is None:
        return True
    return re.search(rb"(?<![\w./-])" + re.escape(branch.encode()) + rb"(?![\w/-])", trouble.raw) is not None


def _is_asked(head: IssueHead, label: str) -> bool:
    return head.state is IssueState.OPEN and label.lower() in head.labels


def _is_open(head: IssueHead | Trouble | None) -> bool:
    """A missing blocker is gone; an unreadable one may still be open."""
    return head is not None and (isinstance(head, Trouble) or head.state is IssueState.OPEN)


def _is_blocking(issues: Folder[IssueHead], number: str) -> bool:
    found = issues.read(number)
    if not isinstance(found, Found):
        return _is_open(found)
    try:
        return _is_open(issue_head(found.document))
    except BadDocument:
        return True


def _folded(labels: Collection[str]) -> frozenset[str]:
    return frozenset(folded for label in labels if (folded := label.strip().lower()))


def _no_issue(ref: IssueRef) -> NoSuchTask:
    return NoSuchTask(f"no issue {ref}", why="there is no such file in its folder of issues", fix="check the number")


def _unreadable(ref: IssueRef, trouble: Trouble) -> PermanentError:
    return PermanentError(f"issue {ref} cannot be read", why=trouble.why, fix="correct the file")


def _busy(path: Path) -> TransientError:
    return TransientError(
        f"{path} is being edited", why="a file changed each time it was about to be written", fix="try again"
    )
