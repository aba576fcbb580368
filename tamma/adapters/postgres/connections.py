"""Connections that are all alike: made when first needed, kept for the next statement, so many at once and no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

import psycopg

from tamma.adapters.postgres.connect import Timeouts, connector
from tamma.adapters.postgres.rows import Row
from tamma.core.errors import TransientError

Connection = psycopg.Connection[Row]
_IDLE_MAX: Final = 5


class Connections:
    """Lends connections; safe to share between threads. The one that came back last is lent first.

    One that broke is found by whoever uses it, so that no ping is paid for each statement. Our own on purpose: see
    docs/decisions/0016.
    """

    def __init__(self, connect: Callable[[], Connection], *, connections_max: int, timeout: timedelta) -> None:
        self._connect = connect
        self._timeout = timeout
        self._changed = threading.Condition()
        self._free = connections_max
        self._idle: list[Connection] = []
        self._era = 0  # a connection of an earlier one is closed when it comes back

    def take(self) -> tuple[Connection, int]:
        """One for the caller alone, to be given back with the number. Raises TransientError if none comes free in time, and what
        connecting raises."""
        with self._changed:
            if not self._free and not self._changed.wait_for(lambda: self._free, self._timeout.total_seconds()):
                raise TransientError(
                    "the database is away",
                    why="no connection became free in time",
                    fix="try again; or run fewer workers at once",
                )
            self._free -= 1
            era = self._era
            if self._idle:
                return self._idle.pop(), era
        try:
            return self._connect(), era
        except BaseException:
            self._make_room()
            raise

    def give_back(self, connection: Connection, era: int) -> None:
        """Kept for the next, unless it broke, or is of an earlier era, or there are enough."""
        closing = [connection]
        with self._changed:
            self._free += 1
            self._changed.notify()
            if era != self._era:
                pass  # dropped while it was lent
            elif connection.broken or connection.closed:
                # The server went away under this one, so also under those that wait: one error, not one for each.
                closing += self._end_era()
            elif len(self._idle) < _IDLE_MAX:
                self._idle.append(connection)
                return
        _close(closing)

    def drop(self) -> None:
        """Close all: those that nobody uses now, the others as soon as they come back."""
        with self._changed:
            dropped = self._end_era()
        _close(dropped)

    def _make_room(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify()

    def _end_era(self) -> list[Connection]:
        self._era += 1
        ended, self._idle = self._idle, []
        return ended


def _close(connections: Iterable[Connection]) -> None:
    for connection in connections:
        connection.close()


def connections_for(
    url: str, *, application_name: str, connections_max: int = 10, timeouts: Timeouts | None = None
) -> Connections:
    """To one database, in autocommit; connects when first used. Raises ConfigError for a URL that cannot be right."""
    limits = timeouts or Timeouts()
    connect = connector(url, application_name=application_name, timeouts=limits, autocommit=True)
    return Connections(connect, connections_max=connections_max, timeout=limits.connect)
