"""What calls a live task off: what people do to its issue, not what we did to it ourselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tamma.core.change import notice_marker
from tamma.core.issue import IssueState
from tamma.core.policy import SelectionPolicy
from tamma.core.task import Notice
from tamma.engine.called_off import why_called_off
from tests.contracts.memory_forge import MemoryForge
from tests.core.builders import a_task


@pytest.mark.parametrize(
    ("author", "notice", "state", "goes_on"),
    [
        ("tamma", Notice.DELIVERED, IssueState.OPEN, True),
        ("tamma", Notice.UNCHANGED, IssueState.OPEN, True),
        ("tamma", Notice.CANCELLED, IssueState.OPEN, False),
        ("tamma", Notice.ESCALATED, IssueState.OPEN, False),
        ("mallory", Notice.DELIVERED, IssueState.OPEN, False),
        ("tamma", Notice.DELIVERED, IssueState.CLOSED, False),
    ],
)
def test_a_label_that_we_took_off_ourselves_calls_nothing_off(
    author: str, notice: Notice, state: IssueState, *, goes_on: bool
) -> None:
    """After a restore the log does not know that the task came to its good end; our own comment on the issue does."""
    forge = MemoryForge()
    ref = forge.add_issue(labels=())
    forge.set_issue(ref, state=state)
    issue = forge.issue(ref)
    policy, task = SelectionPolicy(), replace(a_task(asked_by="label"), ref=ref)
    assert why_called_off(forge, issue, task, policy)
    forge.add_comment(ref, author=author, body=notice_marker(task.id, notice=notice, epoch=None))
    assert bool(why_called_off(forge, issue, task, policy)) is not goes_on
