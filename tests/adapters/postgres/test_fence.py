"""Claims about the fence to the letter: whose rows a lease reaches, and what holds in the very moment it ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from tamma.core.attempt import Outcome, Phase
from tamma.core.effect import EffectKind
from tamma.core.errors import LeaseLost, NoSuchTask, NotClaimable
from tamma.core.event import AgentStarted, PhaseEntered, TaskClaimed, WorkSalvaged, task_stream
from tamma.core.ids import BlobId, Oid, TaskId, WorkerId
from tamma.core.lease import Lease
from tamma.core.task import Task, TaskState, Trigger
from tamma.ports.store import Claim, Store
from tests.adapters.postgres.store_world import ANN, BOB, MINUTE, ORC, World, decided, draft, open_store
from tests.support.wire import a_wire

STARTED = AgentStarted(epoch=1, turn=1, agent="scripted", sandbox="none")
SALVAGED = WorkSalvaged(epoch=1, base=Oid("a" * 40), patch=BlobId("patch"), files=1)
INSTANT = timedelta(microseconds=1)


def lease_of(world: World, task: TaskId) -> Lease:
    lease = world.store.tasks.lease(task)
    assert lease is not None
    return lease


def reserved(store: Store, task: Task, *, total: int = 9) -> bool:
    return store.tasks.reserve(task.id, by=ORC, duration=MINUTE, running_max=total, running_per_repository_max=9)


WRITES: dict[str, Callable[[Store, Claim], object]] = {
    "renew": lambda s, claim: s.claims.renew(claim.lease, duration=10 * MINUTE),
    "enter": lambda s, claim: s.claims.enter(claim.lease, Phase.PREPARE),
    "record": lambda s, claim: s.claims.record(claim.lease, STARTED),
    "salvage": lambda s, claim: s.claims.salvage(claim.lease, SALVAGED),
    "settle": lambda s, claim: s.claims.settle(claim, decided(Outcome.DELIVERED), reason="done"),
    "intend": lambda s, claim: s.effects.intend(claim.lease, key="k", kind=EffectKind.PUSH, intent={}),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_lease_reaches_its_own_task_only(world: World, name: str) -> None:
    """Also where its worker holds another task in the same epoch."""
    others = [world.claimed(number) for number in (1, 3)]
    mine = world.claimed(2)
    before = [(claim.task, world.store.tasks.lease(claim.task.id)) for claim in others]
    WRITES[name](world.store, mine)
    assert [(world.store.tasks.get(c.task.id), world.store.tasks.lease(c.task.id)) for c in others] == before
    assert [e.version for e in world.store.events.stream(task_stream(mine.task.id))][-1] == (
        2 if name == "renew" else 3
    )


def test_a_lease_is_over_in_the_moment_of_its_end(world: World) -> None:
    """Not after it: then nobody may write, and whoever looks for dead attempts may end it; a moment before, it is the other way."""
    claim = world.claimed(1)
    end = claim.lease.expires_at
    with world.at(end) as store, pytest.raises(LeaseLost, match="ran out"):
        store.claims.enter(claim.lease, Phase.PREPARE)
    crashed = decided(Outcome.CRASHED)
    with world.at(end - INSTANT) as store:
        assert store.claims.reap(claim.task.id, epoch=1, decision=crashed, by=ORC, reason="r") is None
        store.claims.enter(claim.lease, Phase.PREPARE)
    with world.at(end) as store:
        assert store.claims.reap(claim.task.id, epoch=1, decision=crashed, by=ORC, reason="r") is not None


def test_a_lease_is_renewed_from_the_databases_time_and_never_shortened(world: World) -> None:
    """That of the guard, which a test can fake."""
    claim = world.claimed(1)
    now = claim.lease.expires_at - timedelta(seconds=10)
    with world.at(now) as store:
        assert store.claims.renew(claim.lease, duration=MINUTE).lease.expires_at == now + MINUTE
        assert store.claims.renew(claim.lease, duration=INSTANT).lease.expires_at == now + MINUTE


def test_what_is_due_is_due_in_that_moment(world: World) -> None:
    """For a claim and for a reservation."""
    task = world.ended(world.claimed(1), Outcome.AGENT_FAILED)
    assert task.run_after is not None
    for moment, is_due in ((task.run_after - INSTANT, False), (task.run_after, True)):
        with world.at(moment) as store:
            assert reserved(store, task) == is_due
    with world.at(task.run_after + MINUTE) as store:
        assert store.claims.claim_next(worker=BOB, capabilities=(), duration=MINUTE) is not None


def test_a_reservation_ends_in_its_moment(world: World) -> None:
    """Then it holds no slot, keeps nobody off, and anybody may clear it."""
    task, other = world.task(1), world.task(2)
    now = world.store.ping()
    with world.at(now) as store:
        assert reserved(store, task)
    with world.at(now + MINUTE - INSTANT) as store:
        assert not reserved(store, other, total=1)
        assert not reserved(store, task)
        assert not store.tasks.unreserve(task.id)
    with world.at(now + MINUTE) as store:
        assert store.tasks.unreserve(task.id)
    with world.at(now) as store:
        assert reserved(store, task)
    with world.at(now + MINUTE) as store:
        assert reserved(store, other, total=1)
    with world.at(now + 2 * MINUTE) as store:
        assert reserved(store, task)


def test_a_reservation_is_given_back_alone(world: World) -> None:
    """By the one who has it; all others keep theirs, and so do those of other holders."""
    tasks = [world.task(number) for number in (1, 2, 3)]
    assert all(reserved(world.store, task) for task in tasks)
    assert not world.store.tasks.unreserve(tasks[0].id, by=ANN)
    assert world.store.tasks.unreserve(tasks[0].id, by=ORC)
    assert not world.store.tasks.unreserve(tasks[0].id, by=ORC)
    assert [reserved(world.store, task) for task in tasks] == [True, False, False]


def test_a_hold_ends_in_its_moment(world: World) -> None:
    """Then it is not ours any more, and another may have it."""
    task, now = world.task(1), world.store.ping()

    def hold(store: Store, by: WorkerId) -> bool:
        effect = store.effects.intend_unleased(
            task.id, key="k", kind=EffectKind.COMMENT, intent={"a": "b"}, by=by, hold=MINUTE
        )
        return effect is not None

    with world.at(now) as store:
        assert hold(store, ANN)
        assert store.effects.holds("k", by=ANN)
        assert not store.effects.holds("k", by=BOB)
    with world.at(now + MINUTE - INSTANT) as store:
        assert not hold(store, BOB)
        assert store.effects.holds("k", by=ANN)
    with world.at(now + MINUTE) as store:
        assert not store.effects.holds("k", by=ANN)
        assert hold(store, BOB)
    with world.at(now + 2 * MINUTE - INSTANT) as store:
        assert store.effects.holds("k", by=BOB)
        assert hold(store, BOB)
        assert not hold(store, ANN)
    with world.at(now + 3 * MINUTE - 2 * INSTANT) as store:
        assert store.effects.holds("k", by=BOB)


def test_two_effects_of_two_tasks_are_told_apart(world: World) -> None:
    """By their keys: what becomes of one says nothing of the other."""
    first, second = world.claimed(1), world.claimed(2)
    for claim, key in ((first, "a"), (second, "b"), (second, "c")):
        world.store.effects.intend(claim.lease, key=key, kind=EffectKind.PUSH, intent={"key": key})
    done = world.store.effects.record(second.lease, key="c", result={"r": "1"})
    assert (done.key, done.intent, done.result) == ("c", {"key": "c"}, {"r": "1"})
    assert [e.key for e in world.store.effects.of_task(second.task.id)] == ["b", "c"]
    assert [str(e.state) for e in world.store.effects.of_task(second.task.id)] == ["intended", "done"]
    assert [e.key for e in world.store.effects.of_task(first.task.id)] == ["a"]


def test_who_mixes_up_two_attempts_is_stopped(world: World) -> None:
    """A fact of another epoch, or a decision that is none of the table's, is a bug of ours and writes nothing."""
    claim = world.claimed(1)
    claims = world.store.claims
    odd = replace(decided(Outcome.CRASHED), to=TaskState.SUCCEEDED)
    other = decided(Outcome.AGENT_FAILED)
    assert other.trigger is Trigger.RETRY
    for wrong in (
        lambda: claims.record(claim.lease, replace(STARTED, epoch=2)),
        lambda: claims.salvage(claim.lease, replace(SALVAGED, epoch=2)),
        lambda: claims.settle(claim, odd, reason="r"),
        lambda: claims.reap(claim.task.id, epoch=1, decision=odd, by=ORC, reason="r", dead=ANN),
        lambda: claims.reap(claim.task.id, epoch=1, decision=other, by=ORC, reason="r", dead=ANN),
    ):
        with pytest.raises(AssertionError):
            wrong()
    assert world.store.tasks.get(claim.task.id) == claim.task


def test_who_gets_nothing_is_told_why(world: World) -> None:
    """Who has it, what it is, or that nobody knows it."""
    claim = world.claimed(1)
    with pytest.raises(NotClaimable, match=f"is running: worker {ANN} has it"):
        world.store.claims.claim(claim.task.id, worker=BOB, duration=MINUTE)
    with pytest.raises(NoSuchTask, match="no task none"):
        world.store.claims.claim(TaskId("none"), worker=BOB, duration=MINUTE)
    unknown = replace(claim.lease, task_id=TaskId("none"))
    with pytest.raises(LeaseLost, match="the task is not in this database"):
        world.store.claims.renew(unknown, duration=MINUTE)
    world.ended(claim, Outcome.DELIVERED)
    with pytest.raises(NotClaimable, match="it is succeeded"):
        world.store.claims.claim(claim.task.id, worker=BOB, duration=MINUTE)


def test_a_lost_reply_brings_back_no_lease_that_is_over(world: World) -> None:
    """The reread after a claim asks for one that still holds, by the same clock."""
    claim = world.claimed(1)
    with a_wire(world.url) as wire, World(url=wire.url, store=world.store).at(claim.lease.expires_at) as store:
        wire.cut_reply_to(b"TASK.CLAIM.SUCCEEDED")
        assert store.claims.claim_next(worker=ANN, capabilities=(), duration=MINUTE) is None
        assert wire.cuts == 1


def test_a_lost_reply_brings_back_the_claim_that_was_made_last(world: World) -> None:
    """Where a worker, against its habit, holds another task; by id the one that was asked for."""
    world.claimed(1)
    second, third = world.task(2), world.task(3)
    with a_wire(world.url) as wire, closing(open_store(wire.url)) as store:
        wire.cut_reply_to(b"TASK.CLAIM.SUCCEEDED")
        claim = store.claims.claim_next(worker=ANN, capabilities=(), duration=2 * MINUTE)
        assert claim is not None
        assert claim.task.id == second.id
        wire.cut_reply_to(b"TASK.CLAIM.SUCCEEDED")
        assert store.claims.claim(third.id, worker=ANN, duration=MINUTE).task.id == third.id
        assert wire.cuts == 2


def test_a_lost_end_is_looked_up_by_its_task_its_epoch_and_its_hand(world: World) -> None:
    """The end of another task, of an earlier epoch, or by somebody else, is not ours."""
    world.ended(world.claimed(1), Outcome.DELIVERED)
    crashed = decided(Outcome.CRASHED)
    with a_wire(world.url) as wire, closing(open_store(wire.url)) as store:
        claim = world.claimed(2)
        wire.cut_reply_to(b"TASK.SETTLE.SUCCEEDED")
        assert store.claims.settle(claim, decided(Outcome.INTERRUPTED), reason="r").id == claim.task.id
        again = world.store.claims.claim(claim.task.id, worker=ANN, duration=MINUTE)
        assert world.store.claims.reap(claim.task.id, epoch=2, decision=crashed, by=ORC, reason="r", dead=ANN)
        wire.cut_reply_to(b"TASK.SETTLE.SUCCEEDED")
        with pytest.raises(LeaseLost):
            store.claims.settle(again, decided(Outcome.DELIVERED), reason="r")
        wire.cut_reply_to(b"TASK.REAP.SUCCEEDED")
        assert store.claims.reap(claim.task.id, epoch=2, decision=crashed, by=BOB, reason="r", dead=ANN) is None
        assert wire.cuts == 3


def test_the_same_fact_twice_is_two_facts(world: World) -> None:
    """Only the newest of the log can be the one whose reply was lost."""
    claim = world.claimed(1)
    with a_wire(world.url) as wire, closing(open_store(wire.url)) as store:
        for phase in (Phase.GATES, Phase.REPAIR, Phase.GATES):
            store.ping()
            assert wire.cut() > 0
            store.claims.enter(claim.lease, phase)
    facts = [event.fact for event in world.store.events.stream(task_stream(claim.task.id))]
    told = [fact.phase for fact in facts if isinstance(fact, PhaseEntered)]
    assert told == [Phase.GATES, Phase.REPAIR, Phase.GATES]


def test_a_claim_is_told_with_its_epoch_and_its_worker(world: World) -> None:
    """Those of the lease: an old holder is known by them."""
    first = world.claimed(1)
    world.store.claims.reap(first.task.id, epoch=1, decision=decided(Outcome.CRASHED), by=ORC, reason="r", dead=ANN)
    second = world.store.claims.claim(first.task.id, worker=BOB, duration=MINUTE)
    facts = [event.fact for event in world.store.events.stream(task_stream(first.task.id))]
    assert [fact for fact in facts if isinstance(fact, TaskClaimed)] == [
        TaskClaimed(worker=claim.lease.worker, epoch=claim.lease.epoch) for claim in (first, second)
    ]


def test_a_hint_makes_no_later_commit_careless(world: World) -> None:
    """It does not wait for the disk itself, and leaves the connection as it was for those who must."""
    with closing(open_store(world.url, connections_max=1)) as store:
        before = store._pool.one("SHOW synchronous_commit")
        store.tasks.create(draft(1))
        assert store._pool.one("SHOW synchronous_commit") == before == ("on",)


def test_to_hold_one_effect_again_leaves_the_others_alone(world: World) -> None:
    """The same intent, taken up by another after its hold: no other effect changes hands."""
    task, now = world.task(1), world.store.ping()

    def hold(store: Store, key: str, by: WorkerId, duration: timedelta) -> None:
        assert store.effects.intend_unleased(
            task.id, key=key, kind=EffectKind.COMMENT, intent={}, by=by, hold=duration
        )  # fmt: skip

    with world.at(now) as store:
        hold(store, "mine", ANN, 10 * MINUTE)
        hold(store, "other", ANN, INSTANT)
    with world.at(now + MINUTE) as store:
        hold(store, "other", BOB, MINUTE)
        assert store.effects.holds("mine", by=ANN)
        assert store.effects.holds("other", by=BOB)


def test_an_effect_of_no_task_is_refused(world: World) -> None:
    """With the error that says so."""
    unknown = TaskId("none")
    with pytest.raises(NoSuchTask):
        world.store.effects.intend_unleased(unknown, key="k", kind=EffectKind.COMMENT, intent={}, by=ANN, hold=MINUTE)
    with pytest.raises(NoSuchTask):
        world.store.effects.record_unleased(unknown, key="k", result={}, by=ANN)
