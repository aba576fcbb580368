"""Whether a live task is called off by its issue, told apart from what we did to the issue ourselves."""

from __future__ import annotations

from typing import Final

from tamma.core.change import notice_marker
from tamma.core.issue import Issue, IssueState
from tamma.core.policy import SelectionPolicy
from tamma.core.selection import reason_to_stop
from tamma.core.task import Notice, Task
from tamma.ports.forge import Forge

_GOOD_ENDS: Final = (Notice.DELIVERED, Notice.UNCHANGED)


def why_called_off(forge: Forge, issue: Issue, task: Task, policy: SelectionPolicy) -> str:
    """Why a live task must be called off, judged by the issue as it is now; empty if it may go on.

    A database that was restored to an older state does not know that it took the label off itself, when it told the issue
    that this very task had come to its good end: then the task goes on, and finds what it did.
    """
    reason = reason_to_stop(issue, task, policy)
    if reason and issue.state is IssueState.OPEN and _was_told_a_good_end(forge, task):
        return ""
    return reason


def _was_told_a_good_end(forge: Forge, task: Task) -> bool:
    markers = [notice_marker(task.id, notice=notice, epoch=None) for notice in _GOOD_ENDS]
    ours = (comment.body for comment in forge.comments(task.ref) if comment.author == forge.user)
    return any(marker in body for body in ours for marker in markers)
