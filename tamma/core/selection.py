"""Which issues may become tasks, in which order, and the reason for every no."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

from tamma.core.change import Change, ChangeState
from tamma.core.issue import Issue, IssueState
from tamma.core.policy import Limits, Order, SelectionPolicy
from tamma.core.task import BY_LABEL, Task, TaskState
from tamma.core.words import counted, ended


@unique
class Why(StrEnum):
    """Codes for a script; the sentence is in ``Reason.text``."""

    REPOSITORY_UNFIT = "repository-unfit"
    PAUSED = "paused"
    CLOSED = "closed"
    NOT_LABELLED = "not-labelled"
    LABEL_MISSING = "label-missing"
    LABEL_FORBIDS = "label-forbids"
    OTHER_ASSIGNEE = "other-assignee"
    AUTHOR_NOT_ALLOWED = "author-not-allowed"
    BLOCKED_BY = "blocked-by"
    TOO_LARGE = "too-large"
    HAS_TASK = "has-task"
    NOT_ASKED_AGAIN = "not-asked-again"
    HAS_CHANGE = "has-change"
    TOO_MANY_CHANGES = "too-many-changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an issue is not picked, and what would change that."""

    why: Why
    text: str
    fix: str = ""


def reasons_against(
    issue: Issue,
    *,
    task: Task | None,
    changes: Sequence[Change],
    open_changes: int,
    policy: SelectionPolicy,
    limits: Limits,
    user: str,
) -> tuple[Reason, ...]:
    """Every reason not to make a task for this issue now; none means it is eligible.

    ``task`` is the newest for the issue, ``changes`` are those from its branch, ``open_changes`` counts ours in the
    repository, and those that tasks under way may yet open, ``user`` is our own name on the forge.
    """
    about_task = _about_task(issue, task, policy)
    is_told = {reason.why for reason in about_task} >= {
        Why.NOT_ASKED_AGAIN
    }  # the missing label says the same in other words
    return (
        *(r for r in _about_issue(issue, policy, limits) if not (is_told and r.why is Why.NOT_LABELLED)),
        *about_task,
        *_about_changes(changes, task, open_changes, limits, user),
    )


def _about_issue(issue: Issue, policy: SelectionPolicy, limits: Limits) -> tuple[Reason, ...]:
    return (*_about_labels(issue, policy), *_about_people(issue, policy), *_about_content(issue, limits))


def _about_labels(issue: Issue, policy: SelectionPolicy) -> Iterator[Reason]:
    if policy.trigger not in issue.labels:
        yield Reason(
            why=Why.NOT_LABELLED, text=f"it does not carry the label {policy.trigger!r}", fix="put the label on"
        )
    for label in sorted(policy.labels_all - issue.labels):
        yield Reason(
            why=Why.LABEL_MISSING, text=f"it does not carry the wanted label {label!r}", fix="put the label on"
        )
    for label in sorted(policy.labels_none & issue.labels):
        yield Reason(why=Why.LABEL_FORBIDS, text=f"the label {label!r} keeps Tamma away", fix="take the label off")


def _about_people(issue: Issue, policy: SelectionPolicy) -> Iterator[Reason]:
    if policy.assignee is not None and policy.assignee not in issue.assignees:
        yield Reason(why=Why.OTHER_ASSIGNEE, text=f"it is not assigned to {policy.assignee!r}", fix="assign it")
    if policy.authors and issue.author not in policy.authors:
        text = f"its author {issue.author!r} is not in select.authors"
        yield Reason(why=Why.AUTHOR_NOT_ALLOWED, text=text, fix="add the author, or file the issue anew")


def _about_content(issue: Issue, limits: Limits) -> Iterator[Reason]:
    if issue.state is IssueState.CLOSED:
        yield Reason(why=Why.CLOSED, text="the issue is closed", fix="reopen it")
    for blocker in issue.blocked_by:
        yield Reason(why=Why.BLOCKED_BY, text=f"issue #{blocker} blocks it and is still open", fix=f"close #{blocker}")
    if issue.size_bytes > limits.issue_bytes_max:
        text = f"its text has {issue.size_bytes} bytes, the limit is {limits.issue_bytes_max}"
        yield Reason(why=Why.TOO_LARGE, text=text, fix="shorten it, or raise limits.issue_bytes_max")


def _about_task(issue: Issue, task: Task | None, policy: SelectionPolicy) -> tuple[Reason, ...]:
    if task is None:
        return ()
    if not task.is_terminal:
        return (
            Reason(
                why=Why.HAS_TASK,
                text=f"it has task {task.id}, which is {task.state}",
                fix=f"see `tamma explain {issue.ref}`",
            ),
        )
    if task.notice is not None:
        return (
            Reason(
                why=Why.NOT_ASKED_AGAIN,
                text=f"task {task.id} {ended(task.state)} and the issue is yet to be told",
                fix="wait for the next tick",
            ),
        )
    if policy.trigger not in issue.labels:
        text = f"task {task.id} {ended(task.state)}, and nobody asked again"
        return (
            Reason(
                why=Why.NOT_ASKED_AGAIN,
                text=text,
                fix=f"put {policy.trigger!r} on again, or `tamma task retry {task.ref}`",
            ),
        )
    return ()


def _retry(task: Task | None) -> str:
    return f"`tamma task retry {task.ref}`" if task else "`tamma task retry`"


def _about_changes(
    changes: Sequence[Change], task: Task | None, open_changes: int, limits: Limits, user: str
) -> tuple[Reason, ...]:
    newest = next((change for change in changes if change.author == user), None)
    if newest is not None:
        text, fix = _word_of(newest, task)
        return (Reason(why=Why.HAS_CHANGE, text=f"change {newest.id} for it {text}", fix=fix),)
    if open_changes >= limits.open_changes_per_repository:
        text = f"{counted(open_changes, 'change is', 'changes are')} open or under way in the repository, the limit is {limits.open_changes_per_repository}"
        return (Reason(why=Why.TOO_MANY_CHANGES, text=text, fix="merge or close some, or wait for what is under way"),)
    return ()


def _word_of(change: Change, task: Task | None) -> tuple[str, str]:
    """What became of a change, and what to do next."""
    match change.state:
        case ChangeState.OPEN | ChangeState.DRAFT:
            return "is open", "review the change, then merge or close it" + (
                f"; {_retry(task)} does it over, replacing its commits" if task else ""
            )
        case ChangeState.MERGED:
            return "was merged", f"close the issue; {_retry(task)} asks for another change"
        case ChangeState.CLOSED:
            return "was closed unmerged: do not redo", f"{_retry(task)} asks for another change"


def priority_of(issue: Issue, policy: SelectionPolicy) -> int:
    """The priority of its task: ``priority_in`` its labels if that is the order, else 0 for all."""
    return priority_in(issue.labels, policy.priority_prefix) if policy.order is Order.PRIORITY else 0


def priority_in(labels: Iterable[str], prefix: str) -> int:
    """From the number behind ``priority:`` in a label; ``priority:1`` goes before ``priority:2``, those without one go last."""
    found = [
        int(rest)
        for label in labels
        if label.startswith(prefix) and (rest := label.removeprefix(prefix)).isdecimal() and len(rest) <= 4
    ]
    return -min(found) if found else -10_000


def rank(issues: Collection[Issue], policy: SelectionPolicy) -> tuple[Issue, ...]:
    """The issues, best first: a total order, stable over calls."""

    def age(issue: Issue) -> tuple[float, str, int, str]:
        stamp = issue.created_at.timestamp() if issue.created_at else float("inf")
        return (stamp, issue.ref.repository, len(issue.ref.number), issue.ref.number)

    oldest = sorted(issues, key=age)
    match policy.order:
        case Order.OLDEST:
            return tuple(oldest)
        case Order.NEWEST:
            return tuple(reversed(oldest))
        case Order.PRIORITY:
            return tuple(sorted(oldest, key=lambda issue: -priority_of(issue, policy)))


def reason_to_stop(issue: Issue, task: Task, policy: SelectionPolicy) -> str:
    """Why a live task must be called off, judged by the issue as it is now; empty if it may go on."""
    if issue.state is IssueState.CLOSED:
        return "the issue was closed"
    if task.asked_by == BY_LABEL and policy.trigger not in issue.labels and task.state is not TaskState.BLOCKED:
        return f"the label {policy.trigger!r} was taken off"
    return ""
