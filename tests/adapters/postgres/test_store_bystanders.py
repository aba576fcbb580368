"""Claims about what an operation is not about: whatever is done to one task or worker, the rows of all others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tamma.core.attempt import Outcome, Phase
from tamma.core.effect import EffectKind, effect_key
from tamma.core.ids import WorkerId, task_id
from tamma.core.task import Notice, TaskKind, TaskState
from tamma.core.worker import WorkerState
from tamma.ports.store import Claim, Store, WorkerRole
from tests.adapters.postgres.store_world import ANN, BOB, MINUTE, ORC, World, decided, draft
from tests.adapters.postgres.test_store_claims import spoke

Act = Callable[[], object]
OURS = draft("ours")
ID = task_id(OURS.ref, kind=OURS.kind, generation=OURS.generation)
EARLIER = timedelta(0)


@pytest.fixture
def crowd(world: World) -> World:
    """One in every state that an operation could take for its own: all of them older than ours."""
    store = world.store
    for worker in (BOB, ORC):
        store.workers.register(worker, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
    store.tasks.create(draft("ours", forge="other"))
    store.tasks.create(draft("ours", repository="other"))
    reserved = store.tasks.create(draft("reserved"))
    store.tasks.reserve(reserved.id, by=BOB, duration=EARLIER, running_max=9, running_per_repository_max=9)
    for _ in range(3):
        again = store.claims.claim(store.tasks.create(draft("again")).id, worker=BOB, duration=MINUTE)
        world.ended(again, Outcome.INTERRUPTED)
    overdue = world.claimed("overdue", worker=BOB, duration=EARLIER)
    assert store.tasks.lease(overdue.task.id) is not None
    twice = world.ended(world.claimed("twice", worker=BOB), Outcome.INTERRUPTED)
    store.claims.claim(twice.id, worker=BOB, duration=EARLIER)
    world.claimed("running", worker=BOB)
    world.ended(world.claimed("asks", worker=BOB), Outcome.BLOCKED)
    told = world.ended(world.claimed("told", worker=BOB), Outcome.DELIVERED)
    key = effect_key(told.id, EffectKind.COMMENT)
    store.effects.intend_unleased(told.id, key=key, kind=EffectKind.COMMENT, intent={}, by=BOB, hold=MINUTE)
    return world


def life(store: Store) -> Iterator[tuple[str, Act]]:
    """Everything that can be done to a task and to a worker, one after the other."""
    key = effect_key(ID, EffectKind.PUSH)

    def claim(worker: WorkerId, duration: timedelta = MINUTE) -> Act:
        return lambda: store.claims.claim(ID, worker=worker, duration=duration)

    def lease() -> Any:
        return store.tasks.lease(ID)

    def counters() -> Any:
        return store.tasks.get(ID).counters

    yield (
        "register",
        lambda: store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=()),
    )
    yield "create", lambda: store.tasks.create(OURS)
    yield (
        "reserve",
        lambda: store.tasks.reserve(ID, by=ORC, duration=MINUTE, running_max=9, running_per_repository_max=9),
    )
    yield "unreserve", lambda: store.tasks.unreserve(ID, by=ORC)
    yield "claim", claim(ANN)
    yield "renew", lambda: store.claims.renew(lease(), duration=MINUTE)
    yield "enter", lambda: store.claims.enter(lease(), Phase.PREPARE)
    yield "record", lambda: store.claims.record(lease(), spoke(1))
    yield "intend", lambda: store.effects.intend(lease(), key=key, kind=EffectKind.PUSH, intent={})
    yield "record effect", lambda: store.effects.record(lease(), key=key, result={})
    yield (
        "settle",
        lambda: store.claims.settle(
            Claim(task=store.tasks.get(ID), lease=lease()), decided(Outcome.BLOCKED, counters()), reason=""
        ),
    )
    yield "told that it asks", lambda: store.tasks.settle_notice(ID, Notice.ASKED, epoch=1, by=ORC)
    yield "unblock", lambda: store.tasks.unblock(ID, by="ann")
    yield "claim again", claim(ANN, EARLIER)
    yield (
        "reap",
        lambda: store.claims.reap(ID, epoch=2, decision=decided(Outcome.CRASHED, counters()), by=ORC, reason=""),
    )
    yield "beat", lambda: store.workers.beat(ANN)
    yield "drain", lambda: store.workers.change_state(ANN, WorkerState.DRAINING, reason="")
    yield "leave", lambda: store.workers.change_state(ANN, WorkerState.GONE, reason="")
    yield "cancel", lambda: store.tasks.cancel(ID, by="ann", reason="", notice=Notice.CANCELLED)
    yield "told that it is cancelled", lambda: store.tasks.settle_notice(ID, Notice.CANCELLED, epoch=2, by=ORC)


def others(world: World) -> dict[str, list[dict[str, Any]]]:
    """Every row that is not ours."""
    with psycopg.connect(world.url, row_factory=dict_row) as connection:
        ours = {"id": ID, "ann": ANN}
        return {
            "tasks": connection.execute("SELECT * FROM task WHERE id <> %(id)s ORDER BY id", ours).fetchall(),
            "effects": connection.execute("SELECT * FROM effect WHERE task_id <> %(id)s ORDER BY key", ours).fetchall(),
            "workers": connection.execute("SELECT * FROM worker WHERE id <> %(ann)s ORDER BY id", ours).fetchall(),
        }


def test_nothing_that_is_done_to_one_touches_another(crowd: World) -> None:
    """Same issue in another repository or on another forge, same epoch, same notice, overdue, asking: each as it was."""
    before = others(crowd)
    for name, act in life(crowd.store):
        version = crowd.store.events.latest(limit=1)
        act()
        assert others(crowd) == before, name
        is_silent = name in {"unreserve", "renew", "beat"}
        assert (crowd.store.events.latest(limit=1) == version) is is_silent, name
    assert crowd.store.tasks.get(ID).state is TaskState.CANCELLED


def test_who_asks_for_one_is_told_of_that_one(crowd: World) -> None:
    """Its lease, its newest generation, its effects, the tasks whose id begins so."""
    store = crowd.store
    task = store.tasks.create(OURS)
    assert store.tasks.lease(task.id) is None
    claim = store.claims.claim(task.id, worker=ANN, duration=MINUTE)
    assert store.tasks.lease(task.id) == claim.lease
    assert [found.id for found in store.tasks.starting_with(task.id[:8], limit=9)] == [task.id]
    assert store.tasks.newest([OURS.ref], TaskKind.RESOLVE).keys() == {OURS.ref}
    assert store.effects.of_task(task.id) == []


def test_an_effect_belongs_to_the_attempt_of_its_own_task(crowd: World) -> None:
    """Whatever numbers the attempts of others have; and its record to the attempt in which it was made."""
    store = crowd.store
    task = crowd.ended(crowd.claimed("ours"), Outcome.INTERRUPTED)
    key = effect_key(task.id, EffectKind.LABELS)
    effect = store.effects.intend_unleased(
        task.id, key=key, kind=EffectKind.LABELS, intent={}, by=ORC, hold=MINUTE
    )  # fmt: skip
    assert effect is not None
    assert effect.epoch == 1
    store.claims.claim(task.id, worker=ANN, duration=MINUTE)
    assert store.effects.record_unleased(task.id, key=key, result={}, by=ORC).epoch == 2
