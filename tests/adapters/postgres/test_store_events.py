"""Claims about the log: dense streams, and a tail that skips nothing."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.events import PostgresEvents
from tamma.adapters.postgres.pool import Pool
from tamma.core.attempt import Outcome
from tamma.core.errors import PermanentError, TransientError
from tamma.core.event import Event
from tamma.core.ids import WorkerId
from tests.adapters.postgres.store_world import ANN, MINUTE, World, together
from tests.support.project import wait_until

RAW = """INSERT INTO event (stream, version, type, tags, at, data, hash)
    VALUES (%s, %s, 'WORKER.STATE.CHANGED', '{}', tamma_now(), '{"worker": "w", "state": "online", "reason": ""}', '')"""


def test_versions_are_dense_in_every_stream(world: World) -> None:
    """Whatever many workers do at once, a stream counts 1, 2, 3 …, and times in it never run backwards."""
    for number in range(6):
        world.task(number)

    def work(worker: str) -> None:
        while claim := world.store.claims.claim_next(worker=WorkerId(worker), capabilities=(), duration=MINUTE):
            world.ended(claim, Outcome.INTERRUPTED if claim.task.epoch < 4 else Outcome.DELIVERED)

    together(*[partial(work, f"w{n}") for n in range(4)])
    streams: dict[str, list[Event]] = {}
    for event in world.store.events.all():
        streams.setdefault(event.stream, []).append(event)
    assert len(streams) == 6
    for events in streams.values():
        assert [event.version for event in events] == list(range(1, 10))
        assert [event.at for event in events] == sorted(event.at for event in events)


def test_a_stream_can_be_read_on(world: World) -> None:
    """After a version; and a tag finds the newest events that carry it, in log order."""
    claim = world.claimed(1)
    stream, events = f"task:{claim.task.id}", world.store.events
    assert [event.version for event in events.stream(stream, after=1)] == [2]
    assert [event.version for event in events.tagged("issue:local/demo#1")] == [1, 2]
    assert [event.version for event in events.tagged("issue:local/demo#1", limit=1)] == [2]
    assert [event.stream for event in events.tagged(f"worker:{ANN}")] == [stream]
    assert [event.version for event in events.latest(limit=1)] == [2]


def test_the_tail_goes_on_where_it_stopped(world: World) -> None:
    """In portions, from a cursor; at the end it returns nothing and the cursor stays."""
    events = world.store.events
    assert (events.head(), events.tail(0)) == (0, ((), 0))
    world.claimed(1)
    head = events.head()
    first, cursor = events.tail(0, limit=1)
    second, cursor = events.tail(cursor, limit=1)
    assert [event.version for event in (*first, *second)] == [1, 2]
    assert events.tail(cursor) == ((), cursor)
    assert cursor == head


def test_the_tail_waits_for_a_writer_that_commits_late(world: World) -> None:
    """A position below a committed one is still open: the tail returns nothing, then both, and skips none."""
    pool = Pool(connections_for(world.url, application_name="tail"))
    events = PostgresEvents(pool, barrier_timeout=timedelta(milliseconds=50))
    with closing(pool), psycopg.connect(world.url) as late:
        late.execute(RAW, ["worker:late", 1])
        world.task(1)
        assert events.tail(0) == ((), 0)
        with pytest.raises(TransientError, match="end of the log"):
            events.head()
        late.commit()
        found: list[Event] = []

        def is_read() -> bool:
            found.extend(events.tail(0)[0])
            return bool(found)

        # Writers of other tests on this server are waited for, too.
        wait_until(is_read, what="what was held back")
    assert [event.stream[:5] for event in found] == ["worke", "task:"]


def test_the_tail_skips_nothing_under_writers_of_uneven_speed(world: World) -> None:
    """Six writers, half of which hold their event back before they commit; a reader all the while: each event once."""
    each, done = 40, threading.Event()

    def write(name: str, *, is_slow: bool) -> None:
        with psycopg.connect(world.url) as connection:
            for version in range(1, each + 1):
                connection.execute(RAW, [f"worker:{name}", version])
                if is_slow:
                    connection.execute("SELECT pg_sleep(0.003)")
                connection.commit()

    read: list[Event] = []

    def follow() -> None:
        cursor, is_last = 0, False
        while not is_last:
            is_last = done.is_set()
            batch, cursor = world.store.events.tail(cursor, limit=50)
            while batch:
                read.extend(batch)
                batch, cursor = world.store.events.tail(cursor, limit=50)

    reader = threading.Thread(target=follow)
    reader.start()
    try:
        together(*[partial(write, f"w{n}", is_slow=n % 2 == 0) for n in range(6)])
    finally:
        done.set()
        reader.join(timeout=60)
    assert len(read) == len({event.position for event in read}) == 6 * each
    for n in range(6):
        assert [event.version for event in read if event.stream == f"worker:w{n}"] == list(range(1, each + 1))


def test_an_event_of_another_release_is_named(world: World) -> None:
    """An unknown type is an error that says to upgrade, not a skipped event."""
    with psycopg.connect(world.url) as connection:
        connection.execute(
            "INSERT INTO event (stream, version, type, tags, at, data, hash) "
            "VALUES ('x', 1, 'NEW', '{}', now(), '{}', '')"
        )
    with pytest.raises(PermanentError, match="cannot be read"):
        world.store.events.latest(limit=1)
