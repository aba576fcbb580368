"""What the front matter of an issue file and of a change file says, parsed at the edge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from tamma.adapters.forges.document import BadDocument, Document, Value, new
from tamma.core.change import ChangeDraft, ChangeState
from tamma.core.ids import IssueRef
from tamma.core.issue import Comment, IssueState
from tamma.core.policy import Order
from tamma.core.selection import priority_in

ISSUE_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
CHANGE_NAME: Final = re.compile(r"[1-9][0-9]{0,9}")
UNKNOWN: Final = "unknown"
_HEADING: Final = re.compile(r"#[ \t]+(.*?)[ \t]*#*[ \t]*")
_HEADING_LINES_MAX: Final = 1_000
_HEADING_CHARS_MAX: Final = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueHead:
    """The front matter of an issue file; small, so that thousands can be remembered."""

    title: str
    author: str
    state: IssueState
    labels: tuple[str, ...]
    assignees: tuple[str, ...]
    blocked_by: tuple[str, ...]
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeHead:
    """The front matter of a change file."""

    title: str
    head: str
    base: str
    author: str
    state: ChangeState
    issue: str
    url: str


def issue_head(document: Document) -> IssueHead:
    """Raises BadDocument where a key is there but cannot be understood: whose comments are no such thing, either, since
    it could not be told of its task. A missing title is empty here: see ``title_of``."""
    values = document.values
    issue_comments(document)
    return IssueHead(
        title=_text(values, "title"),
        author=_text(values, "author") or UNKNOWN,
        state=_state(values, {s.value: s for s in IssueState}, default="open"),
        labels=tuple(dict.fromkeys(label.lower() for label in _texts(values, "labels"))),
        assignees=_texts(values, "assignees"),
        blocked_by=_blockers(values),
        created_at=_time(values.get("created_at"), key="created_at"),
    )


def title_of(head: IssueHead, document: Document) -> str:
    """The title, or the body's first ``# heading``. Raises BadDocument if there is neither."""
    title = head.title or _heading(document.text)
    if not title:
        raise BadDocument("the issue has no title; add `title: ...` to the front matter or a `# heading` to the text")
    return title


def issue_comments(document: Document) -> tuple[Comment, ...]:
    """The comments, oldest first; one without a date stays behind the one it was written after."""
    listed = document.values.get("comments")
    if listed is None or listed == "":
        return ()
    if not isinstance(listed, list):
        raise BadDocument("`comments` must be a list of {id, author, created_at, body}")
    found = [_comment(item, index) for index, item in enumerate(listed, start=1)]
    return tuple(by_age((comment.created_at, comment) for comment in found))


def comment_value(comment: Comment) -> dict[str, Value]:
    """A comment as front matter."""
    value: dict[str, Value] = {"id": comment.id, "author": comment.author}
    if comment.created_at is not None:
        value["created_at"] = comment.created_at.isoformat()
    return {**value, "body": comment.body}


def change_head(document: Document) -> ChangeHead:
    """Raises BadDocument where something that decides is missing or cannot be understood."""
    values = document.values
    required = {key: _text(values, key) for key in ("head", "base")}
    for key, text in required.items():
        if not text:
            raise BadDocument(f"the change has no `{key}`; write the branch there")
    return ChangeHead(
        title=_text(values, "title"),
        author=_text(values, "author") or UNKNOWN,
        state=_state(values, {s.value: s for s in ChangeState}, default=""),
        issue=_text(values, "issue"),
        url=_text(values, "url"),
        **required,
    )


def change_document(draft: ChangeDraft, *, author: str, created_at: datetime) -> Document:
    """The file of a change to open."""
    values: dict[str, Value] = {
        "title": draft.title,
        "head": draft.head,
        "base": draft.base,
        "author": author,
        "state": (ChangeState.DRAFT if draft.is_draft else ChangeState.OPEN).value,
        "issue": str(draft.issue),
        "created_at": created_at.isoformat(),
    }
    return new(values, draft.body)


def issue_of(text: str, *, forge: str, repository: str) -> IssueRef | None:
    """The issue a change names as ``number`` or ``repository#number``; None where it names none."""
    where, mark, number = text.rpartition("#")
    if not ISSUE_NAME.fullmatch(number):
        return None
    return IssueRef(forge=forge, repository=where if mark and where else repository, number=number)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key: 2 before 10, A-2 before A-10; the name itself breaks ties."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return (*((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts), (2, 0, name))


def by_age(dated: Iterable[tuple[datetime | None, T]]) -> Sequence[T]:
    """Oldest first, stable; what has no date takes that of its predecessor.

    Not the file's date: Tamma's own label change would turn the oldest issue into the youngest.
    """
    last = datetime.min.replace(tzinfo=UTC)
    keyed: list[tuple[datetime, T]] = []
    for when, what in dated:
        last = when or last
        keyed.append((last, what))
    return [what for _, what in sorted(keyed, key=lambda pair: pair[0])]


def in_order(heads: Mapping[str, IssueHead], order: Order, priority_prefix: str) -> Sequence[str]:
    """The names, sorted by themselves, in the order asked for."""
    oldest = by_age((head.created_at, name) for name, head in heads.items())
    match order:
        case Order.OLDEST:
            return oldest
        case Order.NEWEST:
            return oldest[::-1]
        case Order.PRIORITY:
            return sorted(oldest, key=lambda name: -priority_in(heads[name].labels, priority_prefix))


def _comment(item: Value, index: int) -> Comment:
    if isinstance(item, str):
        return Comment(id=str(index), author=UNKNOWN, body=item)
    if not isinstance(item, dict):
        raise BadDocument(f"comment {index} must have the keys id, author, created_at and body")
    body = item.get("body")
    if isinstance(body, list | dict):
        raise BadDocument(f"the body of comment {index} is not text; write it after `body: |`, indented")
    return Comment(
        id=_text(item, "id") or str(index),
        author=_text(item, "author") or UNKNOWN,
        body=body or "",
        created_at=_time(item.get("created_at"), key=f"created_at of comment {index}"),
    )


def _text(values: Mapping[str, Value], key: str) -> str:
    value = values.get(key)
    if isinstance(value, list | dict):
        raise BadDocument(f"`{key}` must be one text; put it in quotes")
    return value or ""


def _texts(values: Mapping[str, Value], key: str) -> tuple[str, ...]:
    value = values.get(key)
    if value is None:
        return ()
    items: list[Value] = [*value.split(",")] if isinstance(value, str) else value if isinstance(value, list) else [None]
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) != len(items):
        raise BadDocument(f"`{key}` must be a list of texts, as in `{key}: [one, two]`")
    return tuple(stripped for text in texts if (stripped := text.strip()))


def _state(values: Mapping[str, Value], known: Mapping[str, T], *, default: str) -> T:
    text = _text(values, "state").strip().lower() or default
    if text not in known:
        raise BadDocument(f"`state` is {text!r}; write one of {', '.join(known)}")
    return known[text]


def _blockers(values: Mapping[str, Value]) -> tuple[str, ...]:
    numbers = tuple(dict.fromkeys(text.removeprefix("#") for text in _texts(values, "blocked_by")))
    for number in numbers:
        if not ISSUE_NAME.fullmatch(number):
            raise BadDocument(
                f"`blocked_by` names {number!r}; write numbers of issues of this repository, as in [1, 2]"
            )
    return numbers


def _time(value: Value, *, key: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        when = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is None:
        raise BadDocument(f"`{key}` is no date; write it as 2026-01-31T12:00:00Z")
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _heading(text: str) -> str:
    fence = ""
    for line in text[: 100 * _HEADING_LINES_MAX].split("\n", _HEADING_LINES_MAX)[:_HEADING_LINES_MAX]:
        stripped = line.strip()[:_HEADING_CHARS_MAX]
        mark = stripped[:3] if stripped.startswith(("```", "~~~")) else ""
        if mark and fence in ("", mark):
            fence = "" if fence else mark
        elif not fence and (found := _HEADING.fullmatch(stripped)) and found[1]:
            return found[1]
    return ""
