"""What an agent says it used is recorded, as its page promises."""

from __future__ import annotations

from tamma.core.event import AgentFinished
from tests.faults.world import EDIT, finish
from tests.support.project import Project


def test_usage_is_in_the_log(project: Project) -> None:
    """Numbers by name, of each run."""
    project.configure(steps=f"{EDIT}, {{ spend = {{ tokens = 12000, usd = 0.31 }} }}")
    finish(project)
    [fact] = [event.fact for event in project.events() if isinstance(event.fact, AgentFinished)]
    assert fact.usage == {"tokens": 12000, "usd": 0.31}
