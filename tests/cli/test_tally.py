"""Claims about the last line of a loop that went on until it was idle."""

from __future__ import annotations

from tamma.cli.tally import Tally
from tamma.core.event import Event, Fact, TaskCancelled, TaskClaimed, TaskSettled
from tamma.core.ids import CorrelationId, WorkerId
from tests.core.builders import NOW


def test_the_last_line_counts_each_task_once_by_how_it_ended() -> None:
    """Not by what it came to on the way; what began and was not seen to end is not counted."""
    tally = Tally()
    assert tally.told() == "no task moved"
    for stream, fact in (
        ("1", settled("failed", "gates failed")),
        ("2", settled("retryable", "gates failed")),
        ("2", CLAIMED),
        ("2", settled("succeeded", "delivered")),
        ("3", settled("failed", "refused")),
        ("4", settled("succeeded", "no change needed")),
        ("5", settled("blocked", "blocked")),
        ("6", TaskCancelled(by="ann", reason="", notice=None)),
        ("7", CLAIMED),
    ):
        tally.add(an_event(stream, fact))
    counts = "1 delivered, 1 needed no change, 2 handed back, 1 waiting for a human, 1 cancelled"
    assert tally.told() == f"{counts}; `tamma status` shows each"


CLAIMED = TaskClaimed(epoch=2, worker=WorkerId("w"))


def settled(state: str, outcome: str) -> TaskSettled:
    """An attempt's end."""
    return TaskSettled(
        epoch=1, outcome=outcome, trigger="", state=state, reason="", attempts=1, infra=0, interruptions=0, crashes=0, exit_code=0,
        notice=None, run_after=None,
    )  # fmt: skip


def an_event(stream: str, fact: Fact) -> Event:
    """The fact in an envelope."""
    return Event(position=1, stream=stream, version=1, at=NOW, tags=(), correlation=CorrelationId("c"), fact=fact)
