"""Claims about the reply to a renewal: it carries what a worker is asked for, and costs no more than the renewal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from tamma.core.errors import TaskCancelled
from tamma.ports.store import WorkerRole, WorkerState
from tests.adapters.postgres.store_world import ANN, BOB, World, open_store
from tests.support.machine import eventually
from tests.support.wire import a_wire

HOUR = timedelta(hours=1)
CANCEL = """UPDATE task SET state = 'cancelled', finished_at = now(), worker = NULL, lease_expires_at = NULL, phase = NULL
    WHERE id = %s"""


def test_a_renewal_says_what_the_worker_is_asked_for(world: World) -> None:
    """To drain, if its own row says so; to stop, if the task was called off, and then the lease is as it was."""
    for worker in (ANN, BOB):
        world.store.workers.register(worker, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
    claim, workers = world.claimed(1), world.store.workers

    def said() -> tuple[bool, bool]:
        reply = world.store.claims.renew(claim.lease, duration=HOUR)
        return reply.cancel, reply.drain

    workers.change_state(BOB, WorkerState.DRAINING, reason="r")
    assert said() == (False, False)
    workers.change_state(ANN, WorkerState.DRAINING, reason="r")
    assert said() == (False, True)
    workers.beat(ANN)
    world.store.tasks.cancel(claim.task.id, by="human", reason="no")
    assert said() == (True, True)
    reply = world.store.claims.renew(claim.lease, duration=HOUR)
    assert reply.lease == claim.lease
    with pytest.raises(TaskCancelled):
        reply.check()


def test_a_renewal_that_waited_for_whoever_cancels_says_so(world: World) -> None:
    """Though the task still ran when it was asked."""
    claim = world.claimed(1)
    with psycopg.connect(world.url) as human, psycopg.connect(world.url, autocommit=True) as watcher:
        human.execute(CANCEL, [claim.task.id])
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(world.store.claims.renew, claim.lease, duration=HOUR)
            eventually(lambda: watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is not None)
            human.commit()
            assert asked.result().cancel


def test_a_renewal_is_one_request(world: World) -> None:
    """What it says costs no further one."""
    claim = world.claimed(1)
    with a_wire(world.url) as wire, closing(open_store(wire.url)) as store:
        store.ping()
        before = wire.asked
        for _ in range(3):
            store.claims.renew(claim.lease, duration=HOUR).check()
        assert wire.asked - before == 3
