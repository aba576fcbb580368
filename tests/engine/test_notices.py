"""What an issue's labels say about its task."""

from __future__ import annotations

import pytest

from tamma.config.work import ChangeSettings
from tamma.core.event import Event, GateJudged
from tamma.core.ids import CorrelationId
from tamma.core.policy import RedGreen
from tamma.core.task import Notice, TaskState
from tamma.engine.next_step import next_step
from tamma.engine.notices import labels_for
from tests.core.builders import NOW, a_task


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


def test_tests_that_prove_nothing_lead_to_the_setting_that_says_how_much_they_must() -> None:
    """Alone among what failed, and where no test was broken; the setting's description tells what each of its values does."""
    failed = a_task(TaskState.FAILED, epoch=1, outcome="gates failed")
    key = 'change.red_green = "advisory"'
    assert key in next_step(failed, [judged("red-green")])
    assert key not in next_step(failed, [judged("red-green", regressed=("t.py::old",))])
    assert key not in next_step(failed, [judged("red-green"), judged("lint")])
    told = ChangeSettings.model_fields["red_green"].description or ""
    assert [value for value in RedGreen if f"`{value}`" not in told] == []


def judged(gate: str, *, regressed: tuple[str, ...] = ()) -> Event:
    """A required gate that failed in attempt 1."""
    fact = GateJudged(
        epoch=1, round=0, gate=gate, verdict="fail", is_required=True, summary="why", tree="t", duration_ms=1, argv=(), counts={},
        base_counts={}, fixed=(), regressed=regressed, unfixed=(), flaky=(), removed=(), newly_skipped=(), output=None,
    )  # fmt: skip
    return Event(position=1, stream="s", version=1, at=NOW, tags=(), correlation=CorrelationId("c"), fact=fact)
