"""What is done around the calls of a forge: every call has its places, and a forge that asks to be left alone is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from tamma.adapters.forges.around import CALLS, PATIENCE_SECONDS, AskedAgain, AtFailPoints, ForgeAround, LeftAlone
from tamma.adapters.system import NamedFailPoints, parse_fail_points
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
    forge = ForgeAround(memory, AtFailPoints(points))
    with pytest.raises(TransientError):
        forge.comment(ref, marker="<!-- m -->", body="done")
    assert len(memory.comments(ref)) == 1
    assert forge.comment(ref, marker="<!-- m -->", body="done") == memory.comments(ref)[0]


def test_a_forge_that_names_a_time_is_not_asked_before() -> None:
    """By no call; the same error tells how long it still takes."""
    now, asked = 100.0, MemoryForge()
    ref = asked.add_issue()
    busy = ForgeAround(asked, AtFailPoints(NamedFailPoints({"forge.issue.before": "busy:30@1"})))
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
    busy = ForgeAround(memory, AtFailPoints(NamedFailPoints({"forge.issue.before": "busy:999999999@1"})))
    forge = ForgeAround(busy, LeftAlone(lambda: now))
    with pytest.raises(TransientError):
        forge.issue(ref)
    now += ASKED_WAIT_MAX.total_seconds()
    assert forge.issue(ref).ref == ref


def test_a_plain_outage_leaves_nobody_alone() -> None:
    """Without a time the next call is made."""
    memory = MemoryForge()
    ref = memory.add_issue()
    away = ForgeAround(memory, AtFailPoints(NamedFailPoints({"forge.issue.after": "away@1"})))
    forge = ForgeAround(away, LeftAlone(lambda: 0.0))
    with pytest.raises(TransientError):
        forge.issue(ref)
    assert forge.issue(ref).ref == ref


def test_a_world_around_which_nothing_happens_is_the_same() -> None:
    """Name, user and repositories pass."""
    inner = MemoryWorld().forge
    forge = ForgeAround(inner, LeftAlone(lambda: 0.0))
    assert (forge.name, forge.user, forge.repositories()) == (inner.name, inner.user, inner.repositories())


@dataclass
class Waiting:
    """A clock that only pauses move, and chance that is always the same."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def pause(self, duration: timedelta) -> None:
        self.now += duration.total_seconds()

    def fraction(self) -> float:
        return 0.5


def a_patient_forge(forge: Forge, spec: str, clock: Waiting, *, is_asked_to_stop: bool = False) -> ForgeAround:
    """One that answers badly as ``spec`` says, and is asked again."""
    badly = ForgeAround(forge, AtFailPoints(NamedFailPoints(parse_fail_points(spec))))
    return ForgeAround(badly, AskedAgain(clock=clock, chance=clock, should_stop=lambda: is_asked_to_stop))


@pytest.mark.parametrize("answer", ["away@1", "garbage@1", "busy:3@1"])
def test_an_answer_that_was_lost_once_is_asked_for_again(answer: str) -> None:
    """After a while, or after the time that the forge named."""
    clock, memory = Waiting(), MemoryForge()
    ref = memory.add_issue()
    assert a_patient_forge(memory, f"forge.issue.before={answer}", clock).issue(ref).ref == ref
    assert 0.2 < clock.now < 4
    assert not answer.startswith("busy") or clock.now >= 3


@pytest.mark.parametrize("spec", ["forge.issue.before=away", "forge.issue.before=busy:60", "forge.issue.before=busy:3"])
def test_nobody_is_asked_for_ever(spec: str) -> None:
    """Three times, some seconds in all, and not at all where the forge wants to be left alone for longer."""
    clock, memory = Waiting(), MemoryForge()
    with pytest.raises(TransientError):
        a_patient_forge(memory, spec, clock).issue(memory.add_issue())
    assert clock.now <= PATIENCE_SECONDS


def test_a_write_is_not_repeated_behind_the_back_of_its_lease() -> None:
    """It fails at once, and whoever proves the lease anew does it again."""
    clock, memory = Waiting(), MemoryForge()
    ref = memory.add_issue()
    forge = a_patient_forge(memory, "forge.comment.before=away@1", clock)
    with pytest.raises(TransientError):
        forge.comment(ref, marker="m", body="m")
    assert (clock.now, memory.comments(ref)) == (0, ())


def test_who_is_asked_to_stop_does_not_ask_again() -> None:
    """A signal in the middle of an outage."""
    clock, memory = Waiting(), MemoryForge()
    forge = a_patient_forge(memory, "forge.issue.before=away@1", clock, is_asked_to_stop=True)
    with pytest.raises(TransientError):
        forge.issue(memory.add_issue())
    assert clock.now == 0
