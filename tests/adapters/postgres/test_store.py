"""Claims about the whole: news, blobs, the registry, and a database that goes away."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from tamma.core.attempt import Outcome
from tamma.core.errors import PermanentError, TransientError
from tamma.core.event import WorkerRegistered, WorkerStateChanged, worker_stream
from tamma.core.ids import BlobId
from tamma.core.worker import WorkerState
from tamma.ports.store import WorkerRole
from tests.adapters.postgres.store_world import ANN, MINUTE, World, decided, open_store

SOON, NO_TIME = timedelta(seconds=20), timedelta(0)


def register(world: World) -> None:
    world.store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())


@pytest.mark.parametrize("listens", [True, False], ids=["listen", "poll"])
def test_news_wake_the_one_who_waits(world: World, listens: bool) -> None:
    """What changes the queue is news, once; whatever was written before the first wait counts as news."""
    with closing(open_store(world.url, listen_url=world.url if listens else None)) as waiting:
        assert waiting.wait_for_news(NO_TIME)
        assert not waiting.wait_for_news(NO_TIME)
        claim = world.claimed(1)
        assert waiting.wait_for_news(SOON)
        assert not waiting.wait_for_news(NO_TIME)
        with closing(open_store(world.url)) as another:
            another.claims.settle(claim, decided(Outcome.DELIVERED), reason="")
        assert waiting.wait_for_news(SOON)


def test_the_last_write_of_a_burst_is_told_too(world: World) -> None:
    """A burst gives a hint at its begin; the one it still owes is sent by the writer's own wait, or its end."""
    with closing(open_store(world.url, listen_url=world.url)) as waiting:
        assert waiting.wait_for_news(NO_TIME)
        for number in range(5):
            world.task(number)
        world.store.wait_for_news(NO_TIME)
        assert waiting.wait_for_news(SOON)
        world.task(6)
        world.task(7)
        world.store.close()
        assert waiting.wait_for_news(SOON)


def test_the_clock_can_be_faked_for_a_session(world: World) -> None:
    """tamma.fake_now moves one store's clock and no other's."""
    now = world.store.ping()
    with world.later(by=timedelta(days=1)) as later:
        assert later.ping() - now >= timedelta(days=1)
        assert world.store.ping() - now < timedelta(hours=1)


def test_lost_connections_cost_a_statement_nothing(world: World) -> None:
    """After the server dropped every connection, the next call finds another."""
    world.task(1)
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    world.store.ping()


def test_the_wait_recovers_from_a_lost_listener(world: World) -> None:
    """A dropped LISTEN is a transient error; the next wait listens again, and says that it may have missed something."""
    with closing(open_store(world.url, listen_url=world.url)) as waiting:
        assert waiting.wait_for_news(NO_TIME)
        with psycopg.connect(world.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tamma listen'"
            )
        with pytest.raises(TransientError):
            waiting.wait_for_news(SOON)
        assert waiting.wait_for_news(NO_TIME)


def test_a_worker_goes_offline_and_comes_back(world: World) -> None:
    """Three missed beats by the database's clock; a beat brings it back; each change is one event, beats are none."""
    workers = world.store.workers
    register(world)
    assert not workers.expire(ANN, beat=MINUTE, missed_beats_max=3)
    with world.later(by=2 * MINUTE) as soon:
        assert not soon.workers.expire(ANN, beat=MINUTE, missed_beats_max=3), "it may miss two"
    with world.later(by=4 * MINUTE) as later:
        assert later.workers.expire(ANN, beat=MINUTE, missed_beats_max=3)
        assert not later.workers.expire(ANN, beat=MINUTE, missed_beats_max=3)
        later.workers.beat(ANN)
        later.workers.beat(ANN)
    facts = [event.fact for event in world.store.events.stream(worker_stream(ANN))]
    assert isinstance(facts[0], WorkerRegistered)
    states = [fact.state for fact in facts if isinstance(fact, WorkerStateChanged)]
    assert states == ["offline", "online"]


def test_a_drain_outlives_a_time_without_beats(world: World) -> None:
    """Its machine slept; whoever was told to give its tasks back is told so still, until it is gone or called online."""
    workers = world.store.workers
    register(world)
    workers.change_state(ANN, WorkerState.DRAINING, reason="the host is needed")
    with world.later(by=4 * MINUTE) as later:
        assert later.workers.expire(ANN, beat=MINUTE, missed_beats_max=3)
        later.workers.beat(ANN)
        assert [found.state for found in later.workers.list()] == [WorkerState.DRAINING]
        assert not later.workers.expire(ANN, beat=MINUTE, missed_beats_max=3), "that was a beat"
        later.workers.change_state(ANN, WorkerState.ONLINE, reason="it is needed no more")
    with world.later(by=9 * MINUTE) as then:
        assert then.workers.expire(ANN, beat=MINUTE, missed_beats_max=3)
        then.workers.beat(ANN)
        assert [found.state for found in then.workers.list()] == [WorkerState.ONLINE]


def test_what_a_registration_and_a_beat_say_is_the_time_of_the_database(world: World) -> None:
    """A second registration is a sign of life, a change of state is none."""
    with world.later(by=MINUTE) as first:
        first.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
    [begun] = world.store.workers.list()
    assert begun.last_beat_at == begun.registered_at
    assert begun.registered_at > world.store.ping()
    with world.later(by=2 * MINUTE) as then:
        then.workers.change_state(ANN, WorkerState.DRAINING, reason="r")
        assert then.workers.list()[0].last_beat_at == begun.last_beat_at
        then.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
        [again] = then.workers.list()
    assert again.registered_at == begun.registered_at
    assert again.last_beat_at is not None
    assert again.last_beat_at > begun.registered_at + MINUTE / 2


def test_a_worker_that_is_gone_stays_gone(world: World) -> None:
    """No state, beat or registration brings it back; a state it is in already is no event."""
    register(world)
    workers = world.store.workers
    for state in (WorkerState.DRAINING, WorkerState.DRAINING, WorkerState.GONE, WorkerState.ONLINE):
        workers.change_state(ANN, state, reason="r")
    workers.beat(ANN)
    register(world)
    assert [worker.state for worker in workers.list()] == [WorkerState.GONE]
    assert len(world.store.events.stream(worker_stream(ANN))) == 3


def test_blobs_are_known_by_their_content(world: World) -> None:
    """Put twice is put once; an unknown one is None; a huge one is refused."""
    blobs = world.store.blobs
    name = blobs.put(b"\0\xff text")
    assert blobs.put(b"\0\xff text") == name
    assert blobs.get(name) == b"\0\xff text"
    assert blobs.get(BlobId("nothing")) is None
    with pytest.raises(PermanentError, match="too large"):
        blobs.put(bytes(32 * 1024 * 1024 + 1))


def test_the_first_baseline_stays(world: World) -> None:
    """A second value for the same key changes nothing."""
    baselines = world.store.baselines
    assert baselines.get("k") is None
    baselines.put("k", b"one")
    baselines.put("k", b"two")
    assert baselines.get("k") == b"one"


def test_a_baseline_that_nobody_put_for_90_days_goes_with_the_next_one(world: World) -> None:
    """Each commit of a base has its own, so the table would only grow."""
    baselines = world.store.baselines
    for key, age in (("kept", 89), ("old", 91), ("again", 91)):
        baselines.put(key, b"one")
        with psycopg.connect(world.url) as connection:
            connection.execute(
                "UPDATE baseline SET created_at = created_at - make_interval(days => %s) WHERE key = %s", (age, key)
            )
    baselines.put("again", b"two")
    assert [baselines.get(key) for key in ("kept", "old", "again")] == [b"one", None, b"two"]
