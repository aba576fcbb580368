"""One worker process, started by ``hands``: connects, says that it is ready, then obeys."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any, Final

LEASE: Final = timedelta(minutes=5)


def say(**answer: Any) -> None:
    """Answer, or report."""
    print(json.dumps(answer), flush=True)


def orders(drain: Callable[[], tuple[int, float]]) -> None:
    """Empty the queue whenever told to."""
    say(ready=True)
    for line in sys.stdin:
        _wait_until(json.loads(line)["at"])
        first = time.monotonic()
        done, last = drain()
        say(done=done, first=first, last=last)


def claim_and_settle(url: str) -> None:
    """Tamma's store, as a worker uses it."""
    from tamma.core.attempt import Outcome, judge
    from tamma.core.ids import worker_id
    from tamma.core.policy import RetryPolicy

    store = _store(url)
    me = worker_id(host="bench", pid=os.getpid(), boot="0")
    policy = RetryPolicy()

    def drain() -> tuple[int, float]:
        done, last = 0, time.monotonic()
        while (claim := store.claims.claim_next(worker=me, capabilities=(), duration=LEASE)) is not None:
            decision = judge(Outcome.DELIVERED, claim.task.counters, policy, chance=0.5)
            store.claims.settle(claim, decision, reason="delivered")
            done, last = done + 1, time.monotonic()
        return done, last

    orders(drain)


def raw_claim_and_settle(url: str) -> None:
    """The same statements, prepared, on a bare connection: no values are made of the rows, nobody is told."""
    import psycopg

    from tamma.adapters.postgres import claims
    from tamma.adapters.postgres.sql import TASK_COLUMNS

    connection = psycopg.connect(url, autocommit=True)
    epoch_at = TASK_COLUMNS.split(", ").index("epoch")
    me = f"bench:{os.getpid()}:0"
    wanted = {"worker": me, "capabilities": [], "duration": LEASE}
    ended = {
        "worker": me, "state": "succeeded", "outcome": "delivered", "reason": "delivered", "notice": "delivered",
        "attempts": 0, "infra": 0, "interruptions": 0, "crashes": 0, "delay": None, "is_terminal": True,
    }  # fmt: skip
    data = {key: ended[key] for key in ("state", "outcome", "reason", "notice", "attempts", "infra", "crashes")}

    def drain() -> tuple[int, float]:
        done, last = 0, time.monotonic()
        while row := connection.execute(claims.CLAIM_NEXT, wanted, prepare=True).fetchone():
            epoch = row[epoch_at]
            values = {**ended, "task_id": row[0], "epoch": epoch, "data": json.dumps({**data, "epoch": epoch})}
            assert connection.execute(claims._SETTLE, values, prepare=True).fetchone()
            done, last = done + 1, time.monotonic()
        return done, last

    orders(drain)


def procrastinate_no_op(url: str) -> None:
    """A procrastinate worker with its defaults and a task that does nothing, measured by the task itself."""
    ran: list[float] = []

    async def nothing() -> None:
        ran.append(time.monotonic())

    app = _peer(url, nothing)

    async def obey() -> None:
        async with app.open_async():
            say(ready=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                ran.clear()
                _wait_until(json.loads(line)["at"])
                await app.run_worker_async(wait=False)
                say(done=len(ran), first=ran[0] if ran else 0, last=ran[-1] if ran else 0)

    asyncio.run(obey())


def pick_up(url: str) -> None:
    """Wait for news, claim, report when."""
    from tamma.core.ids import worker_id

    store = _store(url)
    me = worker_id(host="bench", pid=os.getpid(), boot="0")
    store.wait_for_news(timedelta())  # the first call begins to listen
    say(ready=True)
    while True:
        store.wait_for_news(timedelta(seconds=5))
        while store.claims.claim_next(worker=me, capabilities=(), duration=LEASE) is not None:
            say(at=time.monotonic())


def procrastinate_pick_up(url: str) -> None:
    """A waiting procrastinate worker with its defaults, whose task reports when it began."""

    async def nothing() -> None:
        say(at=time.monotonic())

    app = _peer(url, nothing)

    async def wait() -> None:
        async with app.open_async():
            say(ready=True)
            await app.run_worker_async()

    asyncio.run(wait())


def deciders(kind: str) -> Callable[[str], None]:
    """Conditional appends, as many as the order says."""

    def obey(url: str) -> None:
        from tests.benchmarks import deciders

        decisions = getattr(deciders, kind)(url)
        say(ready=True)
        for line in sys.stdin:
            order = json.loads(line)
            _wait_until(order["at"])
            say(**deciders.timed(decisions, order["seed"], order["number"]))

    return obey


def _peer(url: str, nothing: Callable[[], Awaitable[None]]) -> Any:
    procrastinate = import_module("procrastinate")  # by name: types are checked where the extra is not installed
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    app.task(name="nothing")(nothing)
    return app


def _store(url: str) -> Any:
    from tamma.adapters.postgres.connections import connections_for
    from tamma.adapters.postgres.store import PostgresStore

    return PostgresStore(connections_for(url, application_name="bench"), listen_url=url)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


KINDS: Final[Mapping[str, Callable[[str], None]]] = {
    "ours": claim_and_settle,
    "raw": raw_claim_and_settle,
    "procrastinate": procrastinate_no_op,
    "pick-up": pick_up,
    "procrastinate-pick-up": procrastinate_pick_up,
    "append": deciders("ours"),
    "eventsourcing-append": deciders("eventsourcing"),
}


def main() -> None:
    """Not run as a module: procrastinate wants no app in ``__main__``."""
    KINDS[sys.argv[1]](sys.argv[2])
