"""What an issue's labels say about its task."""

from __future__ import annotations

import pytest

from tamma.core.task import Notice
from tamma.engine.notices import labels_for


@pytest.mark.parametrize("notice", Notice)
def test_the_trigger_comes_off_when_a_task_has_ended(notice: Notice) -> None:
    """So that putting it on again is a human's act."""
    _, removed = labels_for(notice, trigger="tamma", is_blocked=False)
    assert "tamma" in removed


@pytest.mark.parametrize("notice", [Notice.ASKED, Notice.ESCALATED])
def test_the_trigger_stays_while_a_task_is_blocked(notice: Notice) -> None:
    """At the cap for outages a task is escalated but blocked: approved without its label it would be called off at once."""
    added, removed = labels_for(notice, trigger="tamma", is_blocked=True)
    assert "tamma" not in removed
    assert not set(added) & set(removed)
