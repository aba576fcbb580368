"""Statements on a pool of connections: repeated where that is safe when one breaks, and news of what they wrote."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from tamma.adapters.postgres.connect import ConnectionBroken, translated
from tamma.adapters.postgres.connections import Connections
from tamma.adapters.postgres.rows import Row
from tamma.adapters.postgres.sql import NEWS
from tamma.core.errors import TransientError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
Parameters = Mapping[str, Any]
NONE: Final[Parameters] = {}
PATIENCE: Final = timedelta(seconds=1)
# Whoever is asked to stop meanwhile still ends within half a minute.
REFUSED_MAX: Final = timedelta(seconds=15)
_FIRST_SECONDS: Final = 0.05
_PAUSE_SECONDS_MAX: Final = 1.0
_HINT_SECONDS: Final = 0.02
_TOLD_AT_TRY: Final = 3  # one stale connection is no news

# What these log is raised as well; without a handler Python would print it, tracebacks and all, between our own lines.
for _library in ("sqlalchemy", "psycopg"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


class Pool:
    """Runs statements, each in a transaction of its own unless ``transaction`` is asked for.

    Every method raises TransientError when the database is away, and ConnectionBroken when a connection broke; a write
    under way is then *unknown*. Reads, and writes whose guard allows it, are tried again until the database has been away
    for ``patience``, if it has been reached at all: who starts while it is away is told at once.
    """

    def __init__(self, connections: Connections, *, patience: timedelta = PATIENCE) -> None:
        self._connections = connections
        self._patience = patience
        self._is_reached = False
        self._away_since: float | None = None
        self._told_at = -_HINT_SECONDS
        self._owes_news = False

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Row]]:
        """A connection in autocommit, given back afterwards; broken ones are thrown away with all their siblings."""
        # One context, not three that are nested: it is entered for every statement.
        lent = None
        try:
            lent = self._connections.take()
            self._is_reached = True
            yield lent[0]
            self._away_since = None
        except Exception as error:
            if (told := translated(error)) is not None:
                raise told from error
            raise
        finally:
            if lent is not None:
                self._connections.give_back(*lent)

    @contextmanager
    def transaction(self, *, is_snapshot: bool = False) -> Iterator[psycopg.Connection[Row]]:
        """Several statements as one; ``is_snapshot`` for reads that must all see the same moment."""
        with self.connection() as connection, connection.transaction():
            if is_snapshot:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection

    def one(self, statement: str, parameters: Parameters = NONE) -> Row | None:
        """The first row, if any, of a statement that may be repeated."""
        return self.repeat(lambda: self.once(statement, parameters))

    def all(self, statement: str, parameters: Parameters = NONE) -> list[Row]:
        """Every row of a statement that may be repeated."""

        def ask() -> list[Row]:
            with self.connection() as connection:
                return connection.execute(statement, parameters).fetchall()

        return self.repeat(ask)

    def run(self, statement: str, parameters: Parameters = NONE) -> int:
        """The number of rows that a statement that may be repeated was about."""

        def ask() -> int:
            with self.connection() as connection:
                return connection.execute(statement, parameters).rowcount

        return self.repeat(ask)

    def once(self, statement: str, parameters: Parameters = NONE) -> Row | None:
        """The first row, if any, of a statement that is never repeated."""
        with self.connection() as connection:
            return connection.execute(statement, parameters).fetchone()

    def write(self, statement: str, parameters: Parameters = NONE) -> Row | None:
        """As ``once``; if there is a row, those who wait for news are told, at once unless they were told just now.

        The hint is a transaction of its own, after the commit: NOTIFY inside a write holds a lock of the whole server
        until its WAL is on disk, which costs a third of the throughput with four workers. In a burst one hint is enough.
        """
        with self.connection() as connection:
            row = connection.execute(statement, parameters).fetchone()
            if row is not None:
                self._owes_news = True
                if time.monotonic() - self._told_at >= _HINT_SECONDS:
                    self._tell(connection)
            return row

    def repeat(
        self, run: Callable[[], T], *, then: Callable[[], T] | None = None, patience: timedelta | None = None
    ) -> T:
        """What ``run`` returns. It is tried again, with growing, jittered pauses, while the database is away or refuses (a lock, a
        full disk, a standby): until it has been away for ``patience`` (by default the pool's), or has refused for as long, and
        for ``REFUSED_MAX`` at most. Once a connection broke it is *unknown* whether it was done, and from then on ``then`` (by
        default the same again) is what is tried: it must look, or it must not matter.
        """
        begun, wanted = time.monotonic(), self._patience if patience is None else patience
        try:
            return run()
        except ConnectionBroken:
            if not self._is_reached:
                raise
            is_unknown = True
        except TransientError:
            is_unknown = False
            if time.monotonic() - begun >= min(wanted, REFUSED_MAX).total_seconds():
                raise
        from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

        since = self._away_since or time.monotonic()  # read once: another thread's success sets it to None
        if is_unknown:
            self._away_since = since

        def again() -> T:
            nonlocal is_unknown
            try:
                return (then or run)() if is_unknown else run()
            except ConnectionBroken:
                is_unknown = True
                raise

        def left() -> float:
            until = since + wanted.total_seconds() if is_unknown else begun + min(wanted, REFUSED_MAX).total_seconds()
            return until - time.monotonic()

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=lambda _: left() <= 0,
            wait=wait_random_exponential(multiplier=_FIRST_SECONDS, max=_PAUSE_SECONDS_MAX),
            before_sleep=partial(_tell_once, left=left),
            reraise=True,
        )
        return retrying(again)

    def pay_news(self) -> None:
        """Send the hint that a burst of writes still owes, if any."""
        if self._owes_news:
            with self.connection() as connection:
                self._tell(connection)

    def _tell(self, connection: psycopg.Connection[Row]) -> None:
        self._owes_news, self._told_at = False, time.monotonic()
        with suppress(psycopg.OperationalError):  # what was written is written; a hint may be lost
            connection.execute(NEWS)

    def close(self) -> None:
        """Give every idle connection back to the server."""
        with suppress(TransientError):
            self.pay_news()
        self._connections.drop()


def _tell_once(state: RetryCallState, *, left: Callable[[], float]) -> None:
    if state.attempt_number == _TOLD_AT_TRY:
        from loguru import logger

        error = state.outcome.exception() if state.outcome else None
        logger.warning("{}; tried again for {:.1f} s at most", error, max(0.0, left()))
