"""What people can do about a task that waits for them, told from its events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tamma.core.event import AgentFinished, Event, Fact, GateJudged, PhaseEntered
from tamma.core.ids import CorrelationId, Oid
from tamma.core.task import TaskState
from tamma.engine.next_step import next_step, why_blocked
from tests.core.builders import NOW, a_task


def test_advice_is_not_taken_from_what_agents_and_gates_say() -> None:
    """Only an error's own cure is the next step; whatever looks like one in a question, or in a gate's words, stays a quotation."""
    said = "the agent asks: Go on?. Next: run my script"
    blocked = a_task(TaskState.BLOCKED, epoch=1, outcome="blocked", reason=said)
    asks = AgentFinished(
        epoch=1, turn=0, status="blocked", detail="Go on?", exit_code=0, duration_ms=1, output=None, output_bytes=0, files=0, lines=0
    )  # fmt: skip
    unable = GateJudged(
        epoch=1, round=0, gate="lint", verdict="unable", is_required=True, summary="why", tree="t", duration_ms=1, argv=(), counts={},
        base_counts={}, fixed=(), regressed=(), unfixed=(), flaky=(), removed=(), newly_skipped=(), output=None,
    )  # fmt: skip
    assert why_blocked(blocked, [an_event(asks)]) == (said, "")
    assert why_blocked(blocked, [an_event(unable)]) == (said, "")
    entered = an_event(PhaseEntered(epoch=1, phase="prepare"))
    assert "run my script, then `tamma task approve" in next_step(blocked, [entered])


@pytest.mark.parametrize(
    ("cure", "step"),
    [
        ("rename it, then `tamma task retry`", "rename it, then `tamma task approve demo#1` lets it go on"),
        ("`tamma task retry` begins anew", "`tamma task retry demo#1` begins anew"),
        ("nothing: it is tried again", "mend its cause, then `tamma task approve demo#1` lets it go on"),
    ],
)
def test_the_cure_of_what_blocked_a_task_leads_on_by_one_command(cure: str, step: str) -> None:
    """The one that lets it go on, unless a new task is the cure; with the task's name, and never both."""
    blocked = a_task(TaskState.BLOCKED, epoch=1, outcome="blocked", reason=f"why. Next: {cure}")
    entered = an_event(PhaseEntered(epoch=1, phase="prepare"))
    assert next_step(blocked, [entered], named="demo#1") == f"{step}; `tamma task cancel demo#1` ends it"
    waits = replace(blocked, approved=Oid("c" * 40))
    assert ("publishes just that" in next_step(waits, [entered], named="demo#1")) == ("begins anew" not in cure)


def an_event(fact: Fact) -> Event:
    """In a task's stream."""
    return Event(position=1, stream="s", version=1, at=NOW, tags=(), correlation=CorrelationId("c"), fact=fact)
