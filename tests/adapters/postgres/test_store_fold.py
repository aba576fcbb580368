"""state == fold(events): after random histories, at random prefixes; and a change without an event is found out."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest

from tamma.core.attempt import Outcome, Phase
from tamma.core.effect import EffectKind, effect_key
from tamma.core.errors import TammaError
from tamma.core.event import AgentSpoke, ChangeDelivered, WorkSalvaged
from tamma.core.fold import Tables, fold
from tamma.core.ids import BlobId, Oid, TaskId, WorkerId
from tamma.core.lease import Lease
from tamma.core.policy import RetryPolicy
from tamma.core.task import Notice
from tamma.core.worker import WorkerState
from tamma.ports.store import Claim, Store, WorkerRole
from tests.adapters.postgres.store_world import MINUTE, World, decided, draft
from tests.support.fold_check import assert_fold_equals_tables, assert_same, events_of, tables_of

WORKERS = [WorkerId(f"w{n}") for n in range(3)]
ENDS = [outcome for outcome in Outcome if outcome is not Outcome.LEASE_LOST]
TIGHT = RetryPolicy(attempts_max=2, infra_max=2, interruptions_max=2, crashes_max=2)


class History:
    """Random operations, legal and not, by workers and orchestrators; leases of attempts long gone are used as well."""

    def __init__(self, store: Store, seed: int) -> None:
        self.chance = random.Random(seed)
        self.store = store
        self.leases: list[Lease] = []
        self.tasks: list[TaskId] = []
        self.generations: dict[int, int] = {}

    def step(self) -> None:
        operations: list[Callable[[], object]] = [
            self.create, self.claim, self.claim, self.claim_next, self.enter, self.record, self.settle, self.settle,
            self.reap, self.salvage, self.cancel, self.unblock, self.tell, self.intend, self.intend, self.finish, self.reserve,
            self.unleased, self.worker,
        ]  # fmt: skip
        with suppress(TammaError):
            self.chance.choice(operations)()

    def worker_id(self) -> WorkerId:
        return self.chance.choice(WORKERS)

    def task(self) -> TaskId:
        return self.chance.choice(self.tasks or [TaskId("none")])

    def lease(self) -> Lease:
        return self.chance.choice(self.leases[-4:])

    def create(self) -> None:
        number = self.chance.randrange(6)
        generation = self.generations.get(number, 1)
        self.tasks.append(self.store.tasks.create(draft(number, generation=generation)).id)
        self.generations[number] = generation + self.chance.randrange(2)

    def claim(self) -> None:
        self.leases.append(self.store.claims.claim(self.task(), worker=self.worker_id(), duration=MINUTE).lease)

    def claim_next(self) -> None:
        if claim := self.store.claims.claim_next(worker=self.worker_id(), capabilities=(), duration=MINUTE):
            self.leases.append(claim.lease)

    def enter(self) -> None:
        if self.leases:
            self.store.claims.enter(self.lease(), self.chance.choice(list(Phase)))

    def record(self) -> None:
        if self.leases:
            lease = self.lease()
            said = AgentSpoke(epoch=lease.epoch, turn=1, text="x\0")
            self.store.claims.record(lease, self.chance.choice((said, delivered(lease))))

    def settle(self) -> None:
        if self.leases:
            lease = self.lease()
            claim = Claim(task=self.store.tasks.get(lease.task_id), lease=lease)
            outcome = self.chance.choice(ENDS)
            if outcome is Outcome.DELIVERED:
                self.store.claims.record(lease, delivered(lease))
            decision = decided(outcome, claim.task.counters, policy=TIGHT)
            self.store.claims.settle(claim, decision, reason=str(outcome))

    def reap(self) -> None:
        task = self.store.tasks.get(self.task())
        decision = decided(Outcome.CRASHED, task.counters, policy=TIGHT)
        dead = self.chance.choice((None, *WORKERS))
        self.store.claims.reap(task.id, epoch=task.epoch, decision=decision, by=WORKERS[0], reason="r", dead=dead)

    def salvage(self) -> None:
        if self.leases:
            lease = self.lease()
            self.store.claims.salvage(lease, WorkSalvaged(epoch=lease.epoch, base=Oid("b"), patch=BlobId("p"), files=1))

    def cancel(self) -> None:
        if self.chance.random() < 0.3:
            notice = self.chance.choice((None, Notice.CANCELLED))
            self.store.tasks.cancel(self.task(), by="ann", reason="enough", notice=notice)

    def unblock(self) -> None:
        self.store.tasks.unblock(self.task(), by="ann", approved=self.chance.choice((None, Oid("c"))))

    def tell(self) -> None:
        task_id = self.task()
        epoch = self.store.tasks.get(task_id).epoch
        self.store.tasks.settle_notice(task_id, self.chance.choice(list(Notice)), epoch=epoch, by=self.worker_id())

    def intend(self) -> None:
        if self.leases:
            lease = self.lease()
            key = effect_key(lease.task_id, EffectKind.PUSH)
            self.store.effects.intend(lease, key=key, kind=EffectKind.PUSH, intent={"epoch": str(lease.epoch)})

    def finish(self) -> None:
        if self.leases:
            lease = self.lease()
            key, is_done = effect_key(lease.task_id, EffectKind.PUSH), self.chance.random() < 0.5
            end = self.store.effects.record if is_done else self.store.effects.abandon
            end(lease, key=key, result={"n": "1"})

    def unleased(self) -> None:
        task_id, by = self.task(), self.worker_id()
        key = effect_key(task_id, EffectKind.COMMENT)
        held = self.store.effects.intend_unleased(
            task_id, key=key, kind=EffectKind.COMMENT, intent={}, by=by, hold=MINUTE
        )  # fmt: skip
        if held is not None and self.chance.random() < 0.5:
            self.store.effects.record_unleased(task_id, key=key, result={"id": "1"}, by=by)

    def reserve(self) -> None:
        self.store.tasks.reserve(
            self.task(), by=self.worker_id(), duration=MINUTE, running_max=3, running_per_repository_max=3
        )  # fmt: skip
        self.store.tasks.unreserve(self.task())

    def worker(self) -> None:
        worker, workers = self.worker_id(), self.store.workers
        workers.register(worker, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=("a",))
        workers.expire(worker, beat=MINUTE, missed_beats_max=3)
        workers.change_state(worker, self.chance.choice(list(WorkerState)[:3]), reason="r")
        workers.beat(worker)


def delivered(lease: Lease) -> ChangeDelivered:
    return ChangeDelivered(epoch=lease.epoch, change="1", url="u", branch="b", commit=Oid("c"))


@pytest.mark.parametrize("seed", range(4))
def test_any_history_folds_to_the_tables(world: World, seed: int) -> None:
    """Sixteen prefixes of a random history of 560 operations over four hours fold to what the tables held then."""
    snapshots: list[tuple[int, Tables]] = []
    start = world.store.ping()
    history = History(world.store, seed)
    for hour in range(4):
        with world.at(start + timedelta(hours=hour)) as store:
            history.store = store
            for _ in range(4):
                for _ in range(35):
                    history.step()
                snapshots.append((store.events.head(), tables_of(world.url)))
    events = events_of(world.url)
    assert len(events) > 100, "a history in which nothing happens proves nothing"
    told, position = Tables(), 0
    for head, held in snapshots:
        assert_same(fold([event for event in events if event.position <= head]), held)
        told = fold([event for event in events if position < event.position <= head], told)
        assert_same(told, held)
        position = head


@pytest.mark.parametrize(
    "sabotage",
    [
        "UPDATE task SET priority = 1",
        "UPDATE task SET state = 'queued', worker = NULL, lease_expires_at = NULL",
        "UPDATE effect SET state = 'done'",
        "UPDATE worker SET state = 'offline'",
        "UPDATE worker SET version = 7",
        "DELETE FROM effect",
    ],
)
def test_a_change_without_an_event_is_found_out(world: World, sabotage: str) -> None:
    """The comparison goes red for a row that the log does not explain."""
    claim = world.claimed(1)
    world.store.effects.intend(claim.lease, key="k", kind=EffectKind.PUSH, intent={})
    world.store.workers.register(
        WORKERS[0], host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=()
    )  # fmt: skip
    assert_fold_equals_tables(world.url)
    with psycopg.connect(world.url) as connection:
        assert connection.execute(sabotage).rowcount == 1
    with pytest.raises(AssertionError, match="differ from the fold"):
        assert_fold_equals_tables(world.url)


def test_volatile_columns_need_no_event(world: World) -> None:
    """Lease expiry, beats and reservations may change silently."""
    claim = world.claimed(1)
    world.store.claims.renew(claim.lease, duration=2 * MINUTE)
    world.store.workers.beat(WORKERS[0])
    world.task(2)
    assert_fold_equals_tables(world.url)
