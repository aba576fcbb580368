"""Claims about the numbers: how long a worker goes on unheard, and how long a task waits before it is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tamma.core.policy import ASKED_WAIT_MAX, LeasePolicy, RetryPolicy

TEN = timedelta(seconds=10)
POLICY = RetryPolicy(backoff_base=TEN, backoff_max=timedelta(minutes=15))


def test_a_worker_stops_at_two_thirds_of_its_lease() -> None:
    """By its own clock, and so before anybody else may begin."""
    assert LeasePolicy(duration=timedelta(seconds=60)).fence == timedelta(seconds=40)


@pytest.mark.parametrize(("n", "step"), [(1, 10), (2, 20), (3, 40), (7, 640), (8, 900), (10_000, 900)])
def test_each_wait_is_twice_the_one_before_up_to_the_longest(n: int, step: int) -> None:
    """Half of it is certain; chance adds the other half."""
    assert POLICY.delay(n, chance=0) == timedelta(seconds=step / 2)
    assert POLICY.delay(n, chance=0.5) == timedelta(seconds=step * 3 / 4)


def test_a_step_has_no_end_but_the_longest_wait() -> None:
    """However long that is: it doubles thirty times, and then stays."""
    patient = RetryPolicy(backoff_base=timedelta(microseconds=2), backoff_max=timedelta.max)
    assert patient.delay(31, chance=0) == timedelta(microseconds=2**30)
    assert patient.delay(32, chance=0) == patient.delay(31, chance=0) > patient.delay(30, chance=0)


def test_who_is_asked_to_wait_longer_does_but_not_for_ever() -> None:
    """The longer of the two, up to a day."""
    assert POLICY.delay(1, chance=0, asked=timedelta(seconds=4)) == TEN / 2
    assert POLICY.delay(1, chance=0, asked=TEN) == TEN
    assert POLICY.delay(1, chance=0, asked=timedelta(days=400)) == ASKED_WAIT_MAX == timedelta(days=1)


@pytest.mark.parametrize(("n", "chance"), [(0, 0.0), (1, -0.1), (1, 1.0)])
def test_a_wait_that_cannot_be_is_a_bug(n: int, chance: float) -> None:
    """There is no attempt before the first, and chance is in [0, 1)."""
    with pytest.raises(AssertionError):
        POLICY.delay(n, chance=chance)


def test_the_bounds_that_the_manual_states() -> None:
    """A task whose configuration says nothing about them has these."""
    policy, leases = RetryPolicy(), LeasePolicy()
    assert (policy.attempts_max, policy.infra_max, policy.interruptions_max, policy.crashes_max) == (3, 20, 20, 3)
    assert (policy.backoff_base, policy.backoff_max) == (TEN, timedelta(minutes=15))
    assert (leases.duration, leases.beat, leases.reservation) == (
        timedelta(seconds=60),
        timedelta(seconds=15),
        timedelta(seconds=60),
    )
    assert leases.missed_beats_max == 3
