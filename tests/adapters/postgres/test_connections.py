"""The pool: who waits, what is kept, what goes with the one that broke, and what is tried again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tamma.adapters.postgres.connect import ConnectionBroken, Timeouts, connect_raw
from tamma.adapters.postgres.connections import Connections, connections_for
from tamma.adapters.postgres.pool import Pool
from tamma.core.errors import TransientError

TOP = Path(__file__).parents[3]
SOON = Timeouts(connect=timedelta(seconds=2))


def test_a_full_pool_is_temporary(empty_database_url: str) -> None:
    """It says what to do."""
    pool = Pool(connections_for(empty_database_url, application_name="tamma test", connections_max=2, timeouts=SOON))
    with closing(pool), pool.connection(), pool.connection(), pytest.raises(TransientError, match="became free"):
        pool.run("select 1")


def test_after_a_failover_no_session_of_before_is_left(empty_database_url: str) -> None:
    """One connection broke: its siblings are closed, those in use as soon as they come back."""
    with closing(Pool(connections_for(empty_database_url, application_name="tamma test"))) as pool:
        with pool.connection() as used:
            with pytest.raises(ConnectionBroken):
                pool.once("select pg_terminate_backend(pg_backend_pid())")
            assert not used.closed
        assert used.closed
        pool.run("select 1")


def test_the_connection_used_last_is_used_again(empty_database_url: str) -> None:
    """Nested uses get others, a few of which are kept; all are closed in the end."""
    pid = "select pg_backend_pid()"
    with closing(Pool(connections_for(empty_database_url, application_name="tamma test"))) as pool:
        first = pool.one(pid)
        assert pool.one(pid) == first
        with ExitStack() as stack:
            used = [stack.enter_context(pool.connection()) for _ in range(6)]
            assert used[0].execute(pid).fetchone() == first
            assert len({connection.info.backend_pid for connection in used}) == 6
        assert [connection.closed for connection in used] == [True, False, False, False, False, False]
    assert all(connection.closed for connection in used)


def test_who_waits_for_a_connection_gets_it_once_it_is_free(empty_database_url: str) -> None:
    """A pool of one serves two threads."""
    with closing(Pool(connections_for(empty_database_url, application_name="tamma test", connections_max=1))) as pool:
        pid = pool.one("select pg_backend_pid()")
        with ThreadPoolExecutor(1) as thread, pool.connection() as used:
            waiting = thread.submit(pool.one, "select pg_backend_pid()")
            used.execute("select pg_sleep(0.1)")
            assert not waiting.done()
        assert waiting.result() == pid


def test_a_connection_of_before_that_breaks_takes_no_later_one_with_it(empty_database_url: str) -> None:
    """What broke with the server broke once."""
    kill = "select pg_terminate_backend(pg_backend_pid())"
    with closing(Pool(connections_for(empty_database_url, application_name="tamma test"))) as pool:
        with suppress(TransientError), pool.connection() as early:
            with suppress(TransientError):
                pool.once(kill)
            later = pool.one("select pg_backend_pid()")
            early.execute(kill)
        assert pool.one("select pg_backend_pid()") == later


def test_what_is_refused_for_a_while_is_done_once_it_is_not(empty_database_url: str) -> None:
    """It was not done, so the same is tried; once it is unknown whether it was done, only the look is, also past refusals."""
    with closing(Pool(connections_for(empty_database_url, application_name="tamma test"))) as pool:
        tries = iter([refused(), refused(), broken(), refused(), None])
        asked: list[str] = []

        def ask(what: str) -> str:
            asked.append(what)
            if (error := next(tries)) is not None:
                raise error
            return what

        pool.one("select 1")
        patient = timedelta(seconds=30)
        assert pool.repeat(lambda: ask("run"), then=lambda: ask("look"), patience=patient) == "look"
        assert asked == ["run", "run", "run", "look", "look"]


def test_who_is_not_patient_is_refused_at_once(empty_database_url: str) -> None:
    """As for what an agent says, whose caller must not be held."""
    with closing(Pool(connections_for(empty_database_url, application_name="tamma test"))) as pool:
        asked = []

        def ask() -> None:
            asked.append(1)
            raise refused()

        with pytest.raises(TransientError):
            pool.repeat(ask, patience=timedelta())
        assert asked == [1]


def refused() -> TransientError:
    return TransientError("the database is away", why="canceling statement due to lock timeout")


def broken() -> ConnectionBroken:
    return ConnectionBroken("the database is away", why="server closed the connection unexpectedly")


def test_who_cannot_connect_takes_no_place(empty_database_url: str) -> None:
    """However often it was tried: a pool of one still lends its one."""
    is_away = True

    def connect() -> psycopg.Connection[Any]:
        if is_away:
            raise psycopg.OperationalError("connection refused")
        return connect_raw(empty_database_url, application_name="tamma test")

    with closing(Pool(Connections(connect, connections_max=1, timeout=timedelta(seconds=1)))) as pool:
        for _ in range(3):
            with pytest.raises(ConnectionBroken):
                pool.one("select 1")
        is_away = False
        assert pool.one("select 1") == (1,)
