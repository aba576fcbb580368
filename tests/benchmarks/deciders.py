"""Who decides on what it has seen: conditional appends with random, overlapping tags, from several processes at once."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final, NamedTuple

import psycopg

TYPE: Final = "WORKER.STATE.CHANGED"
TAGS: Final = 64
_WRITTEN, _ASKED = 3, 2

# Nothing of the product: what the conditions say, over what is in the table.
VIOLATIONS: Final = """
SELECT count(*) FROM event JOIN decided ON event.position > decided.after AND event.position < decided.position
WHERE event.tags @> decided.asked AND event.type = decided.type"""


class Decided(NamedTuple):
    """An append that went through: where it stands in the log, and what must not have come between."""

    position: int
    after: int
    asked: list[str]


def violations(url: str, decided: list[Decided]) -> int:
    """How many events lie between what a decider had seen and where its own event stands."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TEMP TABLE decided (position bigint, after bigint, asked text[], type text)")
        with connection.cursor().copy("COPY decided FROM STDIN") as copy:
            for one in decided:
                copy.write_row((one.position, one.after, one.asked, TYPE))
        row = connection.execute(VIOLATIONS).fetchone()
    assert row is not None
    return int(row[0])


def decide(seed: int, number: int, head: Callable[[], int], append: Callable[..., int | None]) -> Iterator[Decided]:
    """``number`` decisions on the log as it just was; those that came in time."""
    chance = random.Random(seed)
    for _ in range(number):
        tags = [f"t{n}" for n in chance.sample(range(TAGS), _WRITTEN)]
        after = head()
        position = append(tags=tags, asked=tags[:_ASKED], after=after)
        if position is not None:
            yield Decided(position, after, tags[:_ASKED])


def ours(url: str) -> Callable[[int, int], Iterator[Decided]]:
    """Tamma's log."""
    from tamma.adapters.postgres.connections import connections_for
    from tamma.adapters.postgres.store import PostgresStore
    from tamma.core.event import WorkerStateChanged
    from tamma.core.ids import WorkerId
    from tamma.ports.store import Condition

    events = PostgresStore(connections_for(url, application_name="bench")).events
    fact = WorkerStateChanged(worker=WorkerId("w"), state="online", reason="")
    assert fact.TYPE == TYPE

    def append(*, tags: list[str], asked: list[str], after: int) -> int | None:
        unless = Condition(types=(TYPE,), tags=tuple(asked), after=after)
        event = events.append(fact, stream=f"s{os.getpid()}", tags=tags, unless=unless)
        return None if event is None else event.position

    head = _head(url, "SELECT coalesce(max(position), 0) FROM event")
    return lambda seed, number: decide(seed, number, head, append)


def eventsourcing(url: str) -> Callable[[int, int], Iterator[Decided]]:
    """The recorder of the package ``eventsourcing``, as its factory makes it."""
    from tamma.adapters.postgres.connect import parse

    api, recorders = import_module("eventsourcing.dcb.api"), import_module("eventsourcing.dcb.postgres_tt")
    persistence, postgres = import_module("eventsourcing.persistence"), import_module("eventsourcing.postgres")
    where = parse(url)
    datastore = postgres.PostgresDatastore(
        dbname=where["dbname"],
        host=where["host"],
        port=where.get("port", 5432),
        user=where["user"],
        password=where.get("password", ""),
    )
    recorder = recorders.PostgresDCBRecorderTT(datastore)
    with psycopg.connect(url) as alone:  # "create or replace" of several at once fails
        alone.execute("SELECT pg_advisory_xact_lock(1)")
        recorder.create_table()

    def append(*, tags: list[str], asked: list[str], after: int) -> int | None:
        query = api.DCBQuery(items=[api.DCBQueryItem(types=[TYPE], tags=asked)])
        condition = api.DCBAppendCondition(fail_if_events_match=query, after=after)
        event = api.DCBEvent(type=TYPE, data=b'{"state": "online", "reason": "", "worker": "w"}', tags=tags)
        try:
            return int(recorder.append([event], condition))
        except persistence.IntegrityError:
            return None

    head = _head(url, "SELECT coalesce(max(id), 0) FROM dcb_events_tt_main")
    return lambda seed, number: decide(seed, number, head, append)


def _head(url: str, statement: str) -> Callable[[], int]:
    connection = psycopg.connect(url, autocommit=True)

    def head() -> int:
        row: Any = connection.execute(statement, prepare=True).fetchone()
        return int(row[0])

    return head


def timed(decisions: Callable[[int, int], Iterator[Decided]], seed: int, number: int) -> dict[str, Any]:
    """The answer of a process: its span on the shared clock, and what went through."""
    first = time.monotonic()
    decided = list(decisions(seed, number))
    return {"done": number, "first": first, "last": time.monotonic(), "decided": decided}
