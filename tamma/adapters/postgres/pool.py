"""SQLAlchemy's pool with the driver's cursor: as fast as the bare driver, and still one pool with limits and recycling."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
import sqlalchemy

from tamma.adapters.postgres.connect import translate_errors
from tamma.adapters.postgres.rows import Row
from tamma.adapters.postgres.sql import NEWS
from tamma.core.errors import TransientError

Parameters = Mapping[str, Any]
NONE: Final[Parameters] = {}
_HINT_SECONDS: Final = 0.02


class Pool:
    """Runs statements, each in a transaction of its own unless ``transaction`` is asked for.

    Every method raises TransientError when the database is away; a statement under way is then *unknown*.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._told_at = -_HINT_SECONDS
        self._owes_news = False

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Row]]:
        """A connection in autocommit, given back afterwards; broken ones are thrown away with all their siblings."""
        with translate_errors():
            pooled = self._engine.raw_connection()
            driver: psycopg.Connection[Row] = pooled.driver_connection  # type: ignore[assignment]
            try:
                if not driver.autocommit:
                    driver.autocommit = True
                yield driver
            finally:
                if driver.broken or driver.closed:
                    pooled.invalidate()
                    # The server went away under this one, so also under those that wait: one error, not one for each.
                    self._engine.dispose()
                else:
                    pooled.close()

    @contextmanager
    def transaction(self, *, is_snapshot: bool = False) -> Iterator[psycopg.Connection[Row]]:
        """Several statements as one; ``is_snapshot`` for reads that must all see the same moment."""
        with self.connection() as connection, connection.transaction():
            if is_snapshot:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection

    def one(self, statement: str, parameters: Parameters = NONE) -> Row | None:
        """The first row, if any."""
        with self.connection() as connection:
            return connection.execute(statement, parameters).fetchone()

    def all(self, statement: str, parameters: Parameters = NONE) -> list[Row]:
        """Every row."""
        with self.connection() as connection:
            return connection.execute(statement, parameters).fetchall()

    def write(self, statement: str, parameters: Parameters = NONE) -> Row | None:
        """The first row, if any; if so, those who wait for news are told, at once unless they were told just now.

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

    def pay_news(self) -> None:
        """Send the hint that a burst of writes still owes, if any."""
        if self._owes_news:
            with self.connection() as connection:
                self._tell(connection)

    def _tell(self, connection: psycopg.Connection[Row]) -> None:
        self._owes_news, self._told_at = False, time.monotonic()
        with suppress(psycopg.OperationalError):  # what was written is written; a hint may be lost
            connection.execute(NEWS)

    def run(self, statement: str, parameters: Parameters = NONE) -> int:
        """The number of rows it was about."""
        with self.connection() as connection:
            return connection.execute(statement, parameters).rowcount

    def close(self) -> None:
        """Give every idle connection back to the server."""
        with suppress(TransientError):
            self.pay_news()
        self._engine.dispose()
