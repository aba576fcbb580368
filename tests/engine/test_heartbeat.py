"""Claims about the heartbeat: a worker stops before its lease is over, and never believes in a heart that has stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial

import pytest

from tamma.adapters.system import SystemClock
from tamma.core.attempt import Outcome
from tamma.core.errors import ConfigError, LeaseLost, TaskCancelled
from tamma.core.policy import LeasePolicy
from tamma.engine.heartbeat import Heartbeat, Pulse
from tamma.ports.store import Claim, Store, WorkerRole, WorkerState
from tests.adapters.postgres.store_world import ANN, World, decided, open_store
from tests.support.machine import eventually
from tests.support.wire import a_wire

CLOCK = SystemClock()
QUICK = LeasePolicy(duration=timedelta(seconds=1.2), beat=timedelta(seconds=0.1))
SLOW = LeasePolicy(duration=timedelta(seconds=1.2), beat=timedelta(seconds=0.5))


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with closing(open_store(database_url)) as store:
        yield World(url=database_url, store=store)


def beating(
    claim: Claim,
    open_store: Callable[[], Store],
    *,
    policy: LeasePolicy = QUICK,
    asked_at: float | None = None,
    drain: Callable[[], object] = int,
) -> Heartbeat:
    at = CLOCK.monotonic() if asked_at is None else asked_at
    return Heartbeat(open_store=open_store, lease=claim.lease, policy=policy, clock=CLOCK, asked_at=at, drain=drain)


def test_a_worker_that_is_cut_off_stops_before_its_lease_is_over(world: World) -> None:
    """After two thirds of it, although nobody answers: the database still says that the task is its own."""
    claim = world.claimed(1, duration=QUICK.duration)
    with a_wire(world.url) as wire, closing(open_store(wire.url)) as store:
        store.ping()
        with beating(claim, lambda: store) as heart:
            wire.hold()
            eventually(lambda: heart.is_over)
            lease = world.store.tasks.lease(claim.task.id)
            assert lease is not None
            assert lease.expires_at > world.store.ping()
            with pytest.raises(LeaseLost, match="could not be renewed in time"):
                heart.check()
            wire.refuse()
            wire.cut()  # so that the thread can end


def test_the_lease_runs_from_before_the_claim(world: World) -> None:
    """A reply that came late is not counted as a lease that began late."""
    claim = world.claimed(1)
    late = CLOCK.monotonic() - QUICK.fence.total_seconds()
    assert beating(claim, lambda: world.store, asked_at=late).is_over
    assert not beating(claim, lambda: world.store).is_over


def test_one_lost_beat_costs_no_lease(world: World) -> None:
    """It is tried again long before the next one is due: at two beats to a lease the second would come too late."""
    claim = world.claimed(1, duration=SLOW.duration)
    begun = CLOCK.monotonic()
    with a_wire(world.url) as wire:
        wire.refuse()
        with beating(claim, lambda: open_store(wire.url), policy=SLOW) as heart:
            eventually(lambda: wire.refused > 0)
            wire.mend()
            eventually(lambda: CLOCK.monotonic() - begun > SLOW.duration.total_seconds() or heart.is_over)
            heart.check()


def test_a_bug_in_the_heartbeat_ends_as_a_lost_lease_with_its_reason(world: World) -> None:
    """It does not just fall silent."""

    def broken() -> Store:
        raise RuntimeError("no such wheel")

    with beating(world.claimed(1), broken) as heart:
        eventually(lambda: heart.is_over, seconds=0.5)
        with pytest.raises(LeaseLost, match="no such wheel"):
            heart.check()


def test_rights_taken_away_end_as_a_lost_lease_with_what_to_do(world: World) -> None:
    """The attempt can settle as little as it can renew."""

    def forbidden() -> Store:
        raise ConfigError("the database forbids it", why="permission denied", fix="grant it")

    with beating(world.claimed(1), forbidden) as heart:
        eventually(lambda: heart.is_over, seconds=0.5)
        with pytest.raises(LeaseLost, match="forbids it: permission denied") as caught:
            heart.check()
    assert caught.value.fix == "grant it"


def test_a_cancelled_task_is_told_as_one(world: World) -> None:
    """And a lost one as lost."""
    cancelled, reaped = world.claimed(1), world.claimed(2)
    world.store.tasks.cancel(cancelled.task.id, by="human", reason="no")
    world.store.claims.reap(reaped.task.id, epoch=1, decision=decided(Outcome.CRASHED), by=ANN, reason="dead", dead=ANN)
    for claim, error in ((cancelled, TaskCancelled), (reaped, LeaseLost)):
        heart = beating(claim, lambda: open_store(world.url))
        with heart:
            eventually(partial(getattr, heart, "is_over"))
            with pytest.raises(error):
                heart.check()


def test_a_worker_is_asked_to_drain_by_the_reply_to_its_beat(world: World) -> None:
    """And keeps its lease meanwhile; before somebody asked, it is not."""
    world.store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="r", capabilities=())
    claim, asked = world.claimed(1, duration=QUICK.duration), threading.Event()
    with beating(claim, lambda: open_store(world.url), drain=asked.set) as heart:
        eventually(lambda: world.store.tasks.lease(claim.task.id) != claim.lease)
        assert not asked.is_set()
        world.store.workers.change_state(ANN, WorkerState.DRAINING, reason="the host is needed")
        eventually(asked.is_set)
        heart.check()


def alive(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_heart_that_was_left_beats_no_more(world: World) -> None:
    """Its thread is gone, without waiting for the next beat; and it would never keep a process from ending."""
    claim = world.claimed(1)
    slow = LeasePolicy(duration=timedelta(minutes=4), beat=timedelta(minutes=1))
    with beating(claim, lambda: open_store(world.url), policy=slow) as heart:
        assert not heart.is_over
        assert [thread.daemon for thread in alive("heartbeat")] == [True]
    assert alive("heartbeat") == []


def test_each_beat_gives_the_lease_its_whole_time_and_the_worker_a_sign(world: World) -> None:
    """Many of them: the lease never comes near its end."""
    world.store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="r", capabilities=())
    [before] = world.store.workers.list()
    claim = world.claimed(1, duration=QUICK.duration)
    begun = CLOCK.monotonic()
    with beating(claim, lambda: open_store(world.url)) as heart:
        eventually(lambda: heart.is_over or CLOCK.monotonic() - begun > QUICK.duration.total_seconds())
        heart.check()
        lease = world.store.tasks.lease(claim.task.id)
        assert lease is not None
        assert lease.expires_at > world.store.ping() + QUICK.beat
    [after] = world.store.workers.list()
    assert before.last_beat_at is not None
    assert after.last_beat_at is not None
    assert after.last_beat_at > before.last_beat_at


def test_a_pulse_beats_for_a_process_until_it_is_left(world: World) -> None:
    """And then at once no more."""
    world.store.workers.register(ANN, host="h", pid=1, role=WorkerRole.ORCHESTRATOR, release="r", capabilities=())

    def beaten() -> object:
        return world.store.workers.list()[0].last_beat_at

    first = beaten()
    with Pulse(world.store.workers, worker=ANN, beat=timedelta(milliseconds=20)):
        assert [thread.daemon for thread in alive("pulse")] == [True]
        eventually(lambda: beaten() != first)
        second = beaten()
        eventually(lambda: beaten() != second)
    with Pulse(world.store.workers, worker=ANN, beat=timedelta(minutes=5)) as pulse:
        assert isinstance(pulse, Pulse)
        assert len(alive("pulse")) == 1
    assert alive("pulse") == []


def test_a_worker_stops_in_the_moment_of_its_fence(world: World) -> None:
    """Not after it: at two thirds of the lease since the last renewal was asked for."""

    class Stopped(SystemClock):
        def monotonic(self) -> float:
            return 100.0

    claim, policy = world.claimed(1), LeasePolicy(duration=timedelta(seconds=1.5))  # a fence that a float can tell
    for asked_at, is_over in ((99.0, True), (99.001, False)):
        heart = Heartbeat(
            open_store=lambda: world.store,
            lease=claim.lease,
            policy=policy,
            clock=Stopped(),
            asked_at=asked_at,
            drain=int,
        )
        assert heart.is_over == is_over
