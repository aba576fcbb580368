"""Claims about a live attempt: what it writes is fenced, and whoever must stop does at the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from tamma.adapters.system import SystemClock
from tamma.core.attempt import Outcome, Phase
from tamma.core.errors import ExitCode, LeaseLost, RefusedByPolicy, TaskCancelled, TransientError
from tamma.core.event import AgentStarted, PhaseEntered
from tamma.core.pause import EVERYWHERE
from tamma.core.policy import LeasePolicy
from tamma.engine.attempt import PAUSE_POLL, Attempt, Interrupted, refuse
from tamma.engine.heartbeat import Heartbeat
from tamma.engine.plan import Identity, Interruption, Policies, WorkerDeps
from tamma.ports.store import Claim
from tests.adapters.postgres.store_world import ANN, MINUTE, ORC, World, decided, open_store

CLOCK = SystemClock()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with closing(open_store(database_url)) as store:
        yield World(url=database_url, store=store)


@dataclass
class Places:
    """The fail points that were reached, and what happens in a wait."""

    reached: list[str] = field(default_factory=list)
    waits: list[timedelta] = field(default_factory=list)
    then: Any = None

    def reach(self, name: str) -> None:
        self.reached.append(name)

    def monotonic(self) -> float:
        return CLOCK.monotonic()

    def pause(self, duration: timedelta) -> None:
        self.waits.append(duration)
        self.then()


def an_attempt(world: World, claim: Claim, *, places: Places | None = None, asked_at: float | None = None) -> Attempt:
    """With a heart that is not started, so that nothing but the attempt itself renews; what it cannot touch is not there."""
    spot = places or Places()
    absent: Any = None
    policies = Policies(leases=LeasePolicy(duration=timedelta(minutes=5)))
    deps = WorkerDeps(
        identity=Identity(id=ANN, host="h", pid=1, release="r"), store=world.store, open_store=lambda: world.store, forge=absent,
        workspaces=absent, sandbox=absent, environments=absent, plan_for=lambda _: absent, policies=policies, clock=spot,
        chance=absent, fail_points=spot, interruption=Interruption(),
    )  # fmt: skip
    at = CLOCK.monotonic() if asked_at is None else asked_at
    heart = Heartbeat(
        open_store=lambda: world.store, lease=claim.lease, policy=policies.leases, clock=CLOCK, asked_at=at, drain=int
    )
    return Attempt(deps, claim=claim, heartbeat=heart)


def test_a_phase_is_entered_between_its_two_places(world: World) -> None:
    """In the log and in the row."""
    places = Places()
    attempt = an_attempt(world, world.claimed(1), places=places)
    attempt.enter(Phase.PREPARE)
    assert places.reached == ["prepare.before_enter", "prepare.after_enter"]
    assert world.store.tasks.get(attempt.task.id).phase == "prepare"
    assert [e.fact for e in world.store.events.stream(f"task:{attempt.task.id}")][-1] == PhaseEntered(
        epoch=1, phase=Phase.PREPARE
    )
    attempt.enter(Phase.BASELINE)  # from where it is
    with pytest.raises(AssertionError):
        attempt.enter(Phase.PREPARE)


def test_an_attempt_that_was_interrupted_enters_nothing(world: World) -> None:
    """With the exit code of its signal, and its children are told to stop."""
    attempt = an_attempt(world, world.claimed(1))
    assert not attempt.should_stop()
    attempt.deps.interruption.set(ExitCode.SIGINT)
    assert attempt.should_stop()
    with pytest.raises(Interrupted) as caught:
        attempt.enter(Phase.PREPARE)
    assert caught.value.exit_code is ExitCode.SIGINT
    assert world.store.tasks.get(attempt.task.id).phase is None


def test_an_attempt_that_was_not_heard_for_too_long_stops_by_itself(world: World) -> None:
    """By its own clock, although the database would let it go on."""
    attempt = an_attempt(world, world.claimed(1), asked_at=CLOCK.monotonic() - 300)
    assert attempt.should_stop()
    for step in (attempt.check, attempt.prove_lease, attempt.stopped):
        with pytest.raises(LeaseLost, match="could not be renewed in time"):
            step()


def test_a_child_that_was_stopped_for_nothing_is_nobodys_fault(world: World) -> None:
    """Where the lease came back meanwhile."""
    assert isinstance(an_attempt(world, world.claimed(1)).stopped(), TransientError)


def test_the_lease_is_proven_at_the_database_and_gets_its_whole_time(world: World) -> None:
    """Not by what we remember: a task that was cancelled meanwhile is seen, without a heartbeat."""
    attempt = an_attempt(world, world.claimed(1))
    attempt.prove_lease()
    lease = world.store.tasks.lease(attempt.task.id)
    assert lease is not None
    assert lease.expires_at > attempt.lease.expires_at + MINUTE
    world.store.tasks.cancel(attempt.task.id, by="human", reason="no")
    attempt.check()
    with pytest.raises(TaskCancelled):
        attempt.prove_lease()


def test_a_fact_is_written_under_the_lease(world: World) -> None:
    """And refused when the lease is gone."""
    claim = world.claimed(1)
    attempt = an_attempt(world, claim)
    fact = AgentStarted(epoch=1, turn=1, agent="scripted", sandbox="none")
    attempt.record(fact)
    assert [e.fact for e in world.store.events.stream(f"task:{attempt.task.id}")][-1] == fact
    world.store.claims.settle(claim, decided(Outcome.CRASHED), reason="bug")
    with pytest.raises(LeaseLost):
        attempt.record(fact)


def test_a_pause_holds_an_attempt_until_it_is_lifted(world: World) -> None:
    """It says whether there was one."""
    places = Places(then=lambda: world.store.pauses.resume(EVERYWHERE, by="human"))
    attempt = an_attempt(world, world.claimed(1), places=places)
    assert attempt.wait_while_paused() is False
    world.store.pauses.pause(EVERYWHERE, by="human", reason="rest")
    assert attempt.wait_while_paused() is True
    assert places.waits == [PAUSE_POLL]


def test_a_paused_attempt_still_hears_that_it_must_stop(world: World) -> None:
    """Otherwise a drain would wait for the pause."""
    attempt = an_attempt(world, world.claimed(1), places=Places(then=lambda: pytest.fail("it waited")))
    world.store.pauses.pause(EVERYWHERE, by="human", reason="rest")
    attempt.deps.interruption.set(ExitCode.SIGTERM)
    with pytest.raises(Interrupted):
        attempt.wait_while_paused()


def test_what_is_refused_says_every_reason() -> None:
    """In one sentence each."""
    error = refuse(("one", "two"))
    assert isinstance(error, RefusedByPolicy)
    assert error.why == "one; two"


def test_an_attempt_delivers_to_the_branch_of_its_issue(world: World) -> None:
    """And its things are named by its task and its epoch."""
    claim = world.claimed(7)
    world.store.claims.reap(claim.task.id, epoch=1, decision=decided(Outcome.CRASHED), by=ORC, reason="dead", dead=ANN)
    again = world.store.claims.claim(claim.task.id, worker=ANN, duration=MINUTE)
    attempt = an_attempt(world, again)
    assert (attempt.branch, attempt.tag) == ("tamma/7", f"{claim.task.id}:2")
