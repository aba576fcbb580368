"""What is done around the calls of a forge: every call has its places, and a forge that asks to be left alone is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tamma.adapters.forges.around import CALLS, ForgeAround, LeftAlone, at_fail_points
from tamma.adapters.system import NamedFailPoints
from tamma.core.errors import TransientError
from tamma.core.policy import ASKED_WAIT_MAX
from tamma.ports.forge import Forge
from tests.contracts.memory_forge import MemoryForge
from tests.contracts.test_memory_forge import MemoryWorld


def test_every_call_that_may_fail_is_wrapped() -> None:
    """A call that is added to the port joins here by its name."""
    asked = {name for name in vars(Forge) if not name.startswith("_")} - {"name", "user", "repositories"}
    assert set(CALLS) == asked


def test_a_failure_after_the_effect_leaves_the_effect() -> None:
    """The caller sees an error, the world a comment; asked again it is the same comment."""
    memory = MemoryForge()
    ref = memory.add_issue()
    points = NamedFailPoints({"forge.comment.after": "away@1"})
    forge = ForgeAround(memory, at_fail_points(points))
    with pytest.raises(TransientError):
        forge.comment(ref, marker="<!-- m -->", body="done")
    assert len(memory.comments(ref)) == 1
    assert forge.comment(ref, marker="<!-- m -->", body="done") == memory.comments(ref)[0]


def test_a_forge_that_names_a_time_is_not_asked_before() -> None:
    """By no call; the same error tells how long it still takes."""
    now, asked = 100.0, MemoryForge()
    ref = asked.add_issue()
    busy = ForgeAround(asked, at_fail_points(NamedFailPoints({"forge.issue.before": "busy:30@1"})))
    forge = ForgeAround(busy, LeftAlone(lambda: now))
    with pytest.raises(TransientError):
        forge.issue(ref)
    now += 20
    with pytest.raises(TransientError, match="left alone") as caught:
        forge.change_labels(ref, add=["late"], remove=[])
    assert caught.value.retry_after == timedelta(seconds=10)
    assert "late" not in asked.issue(ref).labels
    now += 10
    forge.change_labels(ref, add=["late"], remove=[])
    assert "late" in asked.issue(ref).labels


def test_nobody_is_left_alone_for_ever() -> None:
    """A time beyond a day is a mistake, or worse."""
    now, memory = 0.0, MemoryForge()
    ref = memory.add_issue()
    busy = ForgeAround(memory, at_fail_points(NamedFailPoints({"forge.issue.before": "busy:999999999@1"})))
    forge = ForgeAround(busy, LeftAlone(lambda: now))
    with pytest.raises(TransientError):
        forge.issue(ref)
    now += ASKED_WAIT_MAX.total_seconds()
    assert forge.issue(ref).ref == ref


def test_a_plain_outage_leaves_nobody_alone() -> None:
    """Without a time the next call is made."""
    memory = MemoryForge()
    ref = memory.add_issue()
    away = ForgeAround(memory, at_fail_points(NamedFailPoints({"forge.issue.after": "away@1"})))
    forge = ForgeAround(away, LeftAlone(lambda: 0.0))
    with pytest.raises(TransientError):
        forge.issue(ref)
    assert forge.issue(ref).ref == ref


def test_a_world_around_which_nothing_happens_is_the_same() -> None:
    """Name, user and repositories pass."""
    inner = MemoryWorld().forge
    forge = ForgeAround(inner, LeftAlone(lambda: 0.0))
    assert (forge.name, forge.user, forge.repositories()) == (inner.name, inner.user, inner.repositories())
