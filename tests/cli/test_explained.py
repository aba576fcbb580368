"""What `tamma explain` prints, without a command around it."""

from __future__ import annotations

from tamma.cli.inspect import explained
from tamma.engine.explain import AttemptStory, Explanation
from tests.core.builders import NOW


def test_nothing_is_told_twice() -> None:
    """The status has the first reason and the end of the last attempt; and gates are no news where nothing was changed."""
    reasons = [
        {"why": "closed", "text": "the issue is closed", "fix": ""},
        {"why": "x", "text": "it is too large", "fix": ""},
    ]
    told = explained(
        Explanation(
            issue="demo#1", title="t", status="not picked: the issue is closed", next="reopen it", reasons=reasons
        )
    )
    assert told == [
        "demo#1  t",
        "  status: not picked: the issue is closed",
        "  because: it is too large",
        "  next: reopen it",
    ]
    attempts = [
        AttemptStory(epoch=n, worker="w", started_at=NOW, outcome="agent failed", reason=f"why {n}") for n in (1, 2)
    ]
    for story in attempts:
        story.gates = [{"gate": "(all)", "verdict": "not asked", "summary": "the attempt ended in audit"}]
    told = explained(
        Explanation(issue="demo#1", title="t", status="stopped (agent failed): why 2", next="retry", attempts=attempts)
    )
    text = "\n".join(told)
    assert [text.count(word) for word in ("why 1", "why 2", "not asked")] == [1, 1, 0]
