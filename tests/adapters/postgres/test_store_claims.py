"""Claims about claims, leases and their fence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from tamma.core.attempt import Outcome, Phase, judge
from tamma.core.effect import EffectKind
from tamma.core.errors import LeaseLost, NotClaimable, TaskCancelled
from tamma.core.event import AgentSpoke, ChangeDelivered, TaskReaped, TaskSettled, WorkSalvaged, task_stream
from tamma.core.ids import BlobId, Oid, TaskId, WorkerId
from tamma.core.policy import RetryPolicy
from tamma.core.task import CLAIMABLE, TERMINAL, Counters, Task, TaskState
from tamma.ports.store import Claim, Store
from tests.adapters.postgres.store_world import ANN, BOB, MINUTE, ORC, POLICY, World, decided, draft, together
from tests.support.project import wait_until

HOUR = timedelta(hours=1)
CHANGE = ChangeDelivered(epoch=1, change="12", url="u", branch="tamma/1", commit=Oid("c"))
LAST = RetryPolicy(attempts_max=1, infra_max=1, interruptions_max=1, crashes_max=1)


def spoke(epoch: int) -> AgentSpoke:
    return AgentSpoke(epoch=epoch, turn=1, text="hello")


def writes(store: Store, claim: Claim) -> list[tuple[str, object]]:
    """Every fenced write of an attempt, by name."""
    lease, claims, effects = claim.lease, store.claims, store.effects
    return [
        ("renew", lambda: claims.renew(lease, duration=MINUTE).check()),
        ("enter", lambda: claims.enter(lease, Phase.PREPARE)),
        ("record", lambda: claims.record(lease, spoke(lease.epoch))),
        ("intend", lambda: effects.intend(lease, key="k", kind=EffectKind.PUSH, intent={})),
        ("record effect", lambda: effects.record(lease, key="k", result={})),
        ("settle", lambda: claims.settle(claim, decided(Outcome.DELIVERED), reason="")),
    ]


def assert_fenced(world: World, store: Store, claim: Claim, error: type[Exception]) -> None:
    before = world.store.events.latest(limit=100), world.store.tasks.get(claim.task.id)
    for name, write in writes(store, claim):
        with pytest.raises(error):
            write()  # type: ignore[operator]  # a list of named calls
        assert (world.store.events.latest(limit=100), world.store.tasks.get(claim.task.id)) == before, name


def test_a_claim_is_exclusive(world: World) -> None:
    """Of eight workers that claim one task by id, one gets it; the others are told that it runs."""
    task = world.task(1)

    def attempt(worker: str) -> bool:
        try:
            world.store.claims.claim(task.id, worker=WorkerId(worker), duration=MINUTE)
        except NotClaimable:
            return False
        return True

    assert sum(together(*[partial(attempt, f"w{n}") for n in range(8)])) == 1
    assert world.store.tasks.get(task.id).epoch == 1


def test_claim_next_gives_each_task_to_one_worker(world: World) -> None:
    """Eight workers empty a queue of forty; every task is claimed once."""
    tasks = {world.task(n).id for n in range(40)}

    def drain(worker: str) -> list[TaskId]:
        mine = []
        while claim := world.store.claims.claim_next(worker=WorkerId(worker), capabilities=(), duration=MINUTE):
            mine.append(claim.task.id)
        return mine

    claimed = [one for mine in together(*[partial(drain, f"w{n}") for n in range(8)]) for one in mine]
    assert len(claimed) == len(set(claimed)) == 40
    assert set(claimed) == tasks


def test_the_queue_serves_by_priority_then_age(world: World) -> None:
    """Highest priority first; among equals the oldest; a row that somebody has locked is passed over."""
    low, high, high_later = world.task(1), world.task(2, priority=5), world.task(3, priority=5)
    with psycopg.connect(world.url) as connection:
        connection.execute("SELECT 1 FROM task WHERE id = %s FOR UPDATE", [high.id])
        assert served(world) == [high_later.id, low.id]
    assert served(world) == [high.id]


def served(world: World) -> list[TaskId]:
    order = []
    while claim := world.store.claims.claim_next(worker=ANN, capabilities=(), duration=MINUTE):
        order.append(claim.task.id)
    return order


def test_a_worker_gets_only_what_it_is_capable_of(world: World) -> None:
    """The wanted capabilities must be a subset of ours."""
    task = world.store.tasks.create(draft(1, capabilities=("gpu", "docker")))
    claims = world.store.claims
    assert claims.claim_next(worker=ANN, capabilities=("docker",), duration=MINUTE) is None
    claim = claims.claim_next(worker=ANN, capabilities=("gpu", "docker", "arm"), duration=MINUTE)
    assert claim is not None
    assert claim.task.id == task.id


def test_a_claim_by_id_ignores_due_time_and_reservation(world: World) -> None:
    """A retryable task that is not due, reserved for somebody else, is taken by its id."""
    task = world.ended(world.claimed(1), Outcome.AGENT_FAILED)
    with psycopg.connect(world.url) as connection:
        connection.execute("UPDATE task SET dispatched_by = 'other', dispatch_until = tamma_now() + interval '1 hour'")
    assert world.store.claims.claim_next(worker=ANN, capabilities=(), duration=MINUTE) is None
    claim = world.store.claims.claim(task.id, worker=BOB, duration=MINUTE)
    assert (claim.task.epoch, claim.task.worker, claim.task.run_after) == (2, BOB, None)


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.GATES_FAILED, Outcome.BLOCKED])
def test_what_is_over_or_blocked_is_not_claimable(world: World, outcome: Outcome) -> None:
    """The error says in which state it is; and who asks for the next task does not get it."""
    task = world.ended(world.claimed(1), outcome)
    assert world.store.claims.claim_next(worker=BOB, capabilities=(), duration=MINUTE) is None
    with pytest.raises(NotClaimable, match=str(task.state)):
        world.store.claims.claim(task.id, worker=BOB, duration=MINUTE)


def test_the_lease_runs_by_the_database_clock(world: World) -> None:
    """It lasts as long as was asked for, more after a renewal, never less; renewals leave no event."""
    claim = world.claimed(1)
    assert timedelta(seconds=59) < claim.lease.expires_at - world.store.ping() <= MINUTE
    renewed = world.store.claims.renew(claim.lease, duration=HOUR).lease
    assert renewed.expires_at > claim.lease.expires_at + timedelta(minutes=58)
    assert world.store.claims.renew(claim.lease, duration=MINUTE).lease.expires_at == renewed.expires_at
    assert world.store.tasks.lease(claim.task.id) == renewed
    assert len(world.store.events.stream(task_stream(claim.task.id))) == 2


def test_an_expired_lease_writes_nothing(world: World) -> None:
    """A worker whose lease ran out is refused at every write, though nobody has taken over yet."""
    claim = world.claimed(1)
    with world.later(by=HOUR) as later:
        assert_fenced(world, later, claim, LeaseLost)


def test_an_older_epoch_writes_nothing(world: World) -> None:
    """A worker that was overtaken by the next attempt is refused, even by the same worker's newer claim."""
    old = world.claimed(1)
    world.ended(old, Outcome.INTERRUPTED)
    world.store.claims.claim(old.task.id, worker=ANN, duration=HOUR)
    assert_fenced(world, world.store, old, LeaseLost)
    with pytest.raises(LeaseLost, match=f"epoch 2 has begun on {ANN}"):
        world.store.claims.enter(old.lease, Phase.PREPARE)


def test_another_worker_with_the_epoch_writes_nothing(world: World) -> None:
    """The lease names its worker; knowing the epoch is not enough."""
    claim = world.claimed(1)
    stolen = Claim(
        task=claim.task,
        lease=type(claim.lease)(
            task_id=claim.task.id, epoch=1, worker=BOB, expires_at=claim.lease.expires_at
        ),
    )  # fmt: skip
    assert_fenced(world, world.store, stolen, LeaseLost)


def test_a_cancelled_attempt_is_told_so(world: World) -> None:
    """TaskCancelled at the next write under the cancelled epoch, LeaseLost under any other."""
    claim = world.claimed(1)
    world.store.tasks.cancel(claim.task.id, by="ann", reason="enough")
    assert_fenced(world, world.store, claim, TaskCancelled)
    older = world.claimed(2)
    world.ended(older, Outcome.INTERRUPTED)
    world.store.claims.claim(older.task.id, worker=BOB, duration=HOUR)
    world.store.tasks.cancel(older.task.id, by="ann", reason="enough")
    assert_fenced(world, world.store, older, LeaseLost)


def test_undelivered_work_is_kept_even_after_the_lease_until_a_later_attempt_begins(world: World) -> None:
    """A cancelled attempt's patch can be found; one of an older epoch leaves no event."""
    claim = world.claimed(1)
    world.store.tasks.cancel(claim.task.id, by="ann", reason="enough")
    kept = WorkSalvaged(epoch=1, base=Oid("b"), patch=BlobId("p"), files=1)
    assert world.store.claims.salvage(claim.lease, kept)
    assert world.store.events.stream(task_stream(claim.task.id))[-1].fact == kept
    older = world.claimed(2)
    world.ended(older, Outcome.INTERRUPTED)
    world.store.claims.claim(older.task.id, worker=BOB, duration=HOUR)
    before = world.store.events.stream(task_stream(older.task.id))
    assert not world.store.claims.salvage(older.lease, kept)
    assert world.store.events.stream(task_stream(older.task.id)) == before


def test_facts_go_to_the_stream_under_the_lease(world: World) -> None:
    """Phase and facts raise the version by one each; a delivered change is remembered and tagged."""
    claim = world.claimed(1)
    world.store.claims.enter(claim.lease, Phase.PREPARE)
    world.store.claims.record(claim.lease, spoke(1))
    world.store.claims.record(claim.lease, CHANGE)
    task = world.store.tasks.get(claim.task.id)
    assert (task.phase, task.change, task.version) == ("prepare", "12", 5)
    events = world.store.events.stream(task_stream(task.id))
    assert [event.version for event in events] == [1, 2, 3, 4, 5]
    assert events[-1].fact == CHANGE
    assert events[-1].tags[-2:] == (f"worker:{ANN}", "change:local/demo!12")
    assert world.store.events.tagged("change:local/demo!12") == [events[-1]]


def test_an_event_is_dated_once_its_row_is_locked(world: World) -> None:
    """Who waited for another writer writes after it, also by the clock: times in a stream never run backwards."""
    task = world.task(1)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with psycopg.connect(world.url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("SELECT FROM task WHERE id = %s FOR UPDATE", [task.id])
        claiming = thread.submit(world.store.claims.claim, task.id, worker=ANN, duration=MINUTE)
        wait_until(lambda: other.execute(waiting).fetchone() == (1,), what="its wait for the lock")
        [let_go_at] = other.execute("SELECT clock_timestamp()").fetchone() or ()
        other.commit()
        claim = claiming.result(timeout=30)
    assert world.store.events.stream(task_stream(task.id))[-1].at > let_go_at
    assert claim.lease.expires_at > let_go_at + MINUTE


CASES = [(o, p) for o in Outcome if o is not Outcome.LEASE_LOST for p in (POLICY, LAST)]


@pytest.mark.parametrize(("outcome", "policy"), CASES, ids=lambda v: str(v) if isinstance(v, Outcome) else "")
def test_settle_writes_what_the_core_decided(world: World, outcome: Outcome, policy: RetryPolicy) -> None:
    """State, counters, notice and due time of the row are the decision's; the event tells the same."""
    claim = world.claimed(1)
    world.store.claims.enter(claim.lease, Phase.PREPARE)
    world.store.claims.record(claim.lease, CHANGE)
    decision = judge(outcome, claim.task.counters, policy, chance=0.5)
    task = world.store.claims.settle(claim, decision, reason="why")
    event = world.store.events.stream(task_stream(task.id))[-1]
    assert task == world.store.tasks.get(task.id)
    assert (task.state, task.counters, task.notice) == (decision.to, decision.counters, decision.notice)
    assert (task.outcome, task.reason, task.worker, task.phase) == (outcome, "why", None, None)
    assert task.run_after == (event.at + decision.delay if decision.delay is not None else None)
    assert task.finished_at == (event.at if task.state in TERMINAL else None)
    fact = event.fact
    assert isinstance(fact, TaskSettled)
    assert (fact.state, fact.trigger, fact.exit_code) == (decision.to, decision.trigger, decision.exit_code)
    assert (fact.run_after, fact.notice) == (task.run_after, decision.notice)
    assert world.store.tasks.lease(task.id) is None


def test_a_settled_task_waits_until_it_is_due(world: World) -> None:
    """claim_next sees a retryable task only after its back-off."""
    task = world.ended(world.claimed(1), Outcome.CRASHED)
    assert world.store.claims.claim_next(worker=ANN, capabilities=(), duration=MINUTE) is None
    with world.later(by=HOUR) as later:
        claim = later.claims.claim_next(worker=ANN, capabilities=(), duration=MINUTE)
    assert claim is not None
    assert (claim.task.id, claim.task.epoch) == (task.id, 2)


def reap(store: Store, task: Task, *, epoch: int = 1, dead: WorkerId | None = None) -> Task | None:
    decision = decided(Outcome.CRASHED, task.counters)
    return store.claims.reap(task.id, epoch=epoch, decision=decision, by=ORC, reason="no word", dead=dead)


def test_a_live_lease_is_not_reaped(world: World) -> None:
    """Nor one of another epoch, nor for the death of another worker."""
    claim = world.claimed(1)
    assert reap(world.store, claim.task) is None
    assert reap(world.store, claim.task, dead=BOB) is None
    with world.later(by=HOUR) as later:
        assert reap(later, claim.task, epoch=2) is None
    assert world.store.tasks.get(claim.task.id).state is TaskState.RUNNING


def test_an_expired_lease_is_reaped_once(world: World) -> None:
    """Of four reapers one does it; the event names reaper and worker, and only the crash is counted."""
    claim = world.claimed(1)
    with world.later(by=HOUR) as later:
        done = [task for task in together(*[lambda: reap(later, claim.task)] * 4) if task is not None]
    (task,) = done
    assert (task.state, task.counters, task.outcome) == (TaskState.RETRYABLE, Counters(crashes=1), "crashed")
    event = world.store.events.stream(task_stream(task.id))[-1]
    assert isinstance(event.fact, TaskReaped)
    assert (event.fact.worker, event.fact.by, event.fact.run_after) == (ANN, ORC, task.run_after)
    assert event.tags[-2:] == (f"worker:{ORC}", f"worker:{ANN}")


def test_the_attempt_of_a_dead_worker_is_reaped_at_once(world: World) -> None:
    """Whoever saw the very process die need not wait for the lease to run out."""
    claim = world.claimed(1)
    task = reap(world.store, claim.task, dead=ANN)
    assert task is not None
    assert task.state in CLAIMABLE
    assert_fenced(world, world.store, claim, LeaseLost)


def settles(world: World, claim: Claim) -> bool:
    try:
        world.ended(claim, Outcome.DELIVERED)
    except LeaseLost:
        return False
    return True


def is_reaped(world: World, claim: Claim) -> bool:
    return reap(world.store, claim.task, dead=ANN) is not None


def test_settle_and_reap_cannot_both_win(world: World) -> None:
    """A dying worker's last word and its parent's race: one of them ends the attempt, the other finds it ended."""
    for number in range(10):
        claim = world.claimed(number)

        won = together(partial(settles, world, claim), partial(is_reaped, world, claim))
        assert sorted(won) == [False, True]
        assert len(world.store.events.stream(task_stream(claim.task.id))) == 3
