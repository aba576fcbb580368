"""What the agent printed in a task's newest attempt, as the log holds it: redacted, a very long middle left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamma.core.event import AgentFinished, AgentSpoke, Event
from tamma.ports.store import Blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """One run. ``status`` is empty while it goes on, and where nobody saw its end; then ``text`` is what was heard so far."""

    epoch: int
    turn: int
    status: str
    text: str


def agent_runs(events: Sequence[Event], blobs: Blobs) -> list[AgentRun]:
    """Those of the newest attempt in which an agent ran, in order; none where none did."""
    spoke = [e.fact for e in events if isinstance(e.fact, AgentSpoke)]
    ended = [e.fact for e in events if isinstance(e.fact, AgentFinished)]
    runs = {(fact.epoch, fact.turn) for fact in spoke} | {(fact.epoch, fact.turn) for fact in ended}
    newest = max((epoch for epoch, _ in runs), default=0)
    turns = sorted(turn for epoch, turn in runs if epoch == newest)
    return [_run(newest, turn, spoke, ended, blobs) for turn in turns]


def _run(epoch: int, turn: int, spoke: Sequence[AgentSpoke], ended: Sequence[AgentFinished], blobs: Blobs) -> AgentRun:
    end = next((fact for fact in ended if (fact.epoch, fact.turn) == (epoch, turn)), None)
    if end is None:
        heard = [fact.text for fact in spoke if (fact.epoch, fact.turn) == (epoch, turn)]
        return AgentRun(epoch=epoch, turn=turn, status="", text="\n".join(heard))
    content = blobs.get(end.output) if end.output else None
    return AgentRun(epoch=epoch, turn=turn, status=end.status, text=(content or b"").decode("utf-8", "replace"))
