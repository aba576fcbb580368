"""Issue files of the local forge, written by program; a person does the same with an editor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tamma.adapters.forges.document import Document, Value, new
from tamma.adapters.forges.folder import Folder, locked
from tamma.adapters.forges.records import ISSUE_NAME, comment_value, issue_head
from tamma.core.errors import ConfigError
from tamma.core.issue import Comment, IssueState


def issue_document(
    *,
    title: str,
    body: str = "",
    labels: Sequence[str] = (),
    author: str = "reporter",
    state: IssueState = IssueState.OPEN,
    assignees: Sequence[str] = (),
    blocked_by: Sequence[str] = (),
    created_at: datetime | None = None,
    comments: Sequence[Comment] = (),
    extra: Mapping[str, str] | None = None,
) -> Document:
    """An issue as a file; what is empty is left out."""
    values: dict[str, Value] = {"title": title, "labels": [*labels], "author": author, "state": state.value}
    if assignees:
        values["assignees"] = [*assignees]
    if blocked_by:
        values["blocked_by"] = [*blocked_by]
    if created_at is not None:
        values["created_at"] = created_at.isoformat()
    values.update(extra or {})
    if comments:
        values["comments"] = [comment_value(comment) for comment in comments]
    return new(values, body)


def write_issue(folder: Path, document: Document, *, number: str | None = None, lock: Path | None = None) -> Path:
    """Write a new issue file and say where; without a number it takes the next free one.

    Raises ConfigError for a number that cannot name a file, or that is taken.
    """
    issues = Folder(folder, names=ISSUE_NAME, extract=issue_head)
    if number is not None and not ISSUE_NAME.fullmatch(number):
        raise ConfigError(
            f"{number!r} cannot number an issue", why="letters, digits, - and _ only", fix="choose another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(lock or folder.parent / ".lock"):
        chosen = number or str(1 + max((int(name) for name in issues.names() if name.isdecimal()), default=0))
        if issues.create(chosen, document):
            return issues.file(chosen)
    raise ConfigError(f"issue {chosen} is there already", why=str(issues.file(chosen)), fix="choose another number")
