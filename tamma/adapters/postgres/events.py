"""Reading the log. The tail never skips an event that commits late (RECIPES, the barrier)."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.anchors import ARCHIVED_IN, held
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import EVENT_COLUMNS
from tamma.core.errors import TransientError
from tamma.core.event import Event, Fact
from tamma.core.fold import Folder, Tables
from tamma.ports.store import Condition

_BATCH: Final = 1_000
_BARRIER_TIMEOUT: Final = timedelta(seconds=5)
_PAUSE_SECONDS: Final = 0.001
_PAUSE_SECONDS_MAX: Final = 0.02

_STREAM: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE stream = %(stream)s AND version > %(after)s ORDER BY version"
_UNTIL: Final = "(%(at)s::timestamptz IS NULL OR at <= %(at)s)"
_TAGGED: Final = f"""SELECT {EVENT_COLUMNS} FROM event WHERE tags @> ARRAY[%(tag)s::text] AND {_UNTIL}
    ORDER BY position DESC LIMIT %(limit)s"""
_LATEST: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE {_UNTIL} ORDER BY position DESC LIMIT %(limit)s"
_BETWEEN: Final = f"""SELECT {EVENT_COLUMNS} FROM event
    WHERE position > %(after)s AND position <= %(until)s ORDER BY position LIMIT %(limit)s"""
_APPEND: Final = """SELECT told_position, %(stream)s, told_version, told_at, %(tags)s::text[], %(correlation)s::text,
    %(type)s, %(data)s::jsonb, told_hash
    FROM tamma_append(%(stream)s, %(type)s, %(tags)s::text[], %(correlation)s, %(data)s::jsonb, %(types)s::text[],
                      %(unless)s::text[], %(after)s)"""
_LAST: Final = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM event_position_seq"
_XID: Final = "SELECT pg_current_xact_id()::text"
_IS_PAST: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= %(xid)s::text::xid8"


class PostgresEvents:
    """``ports.store.Events``."""

    def __init__(self, pool: Pool, *, barrier_timeout: timedelta = _BARRIER_TIMEOUT) -> None:
        self._pool = pool
        self._barrier_timeout = barrier_timeout

    def stream(self, name: str, *, after: int = 0) -> Sequence[Event]:
        """One stream in order, versions above ``after``."""
        return [rows.event_of(row) for row in self._pool.all(_STREAM, {"stream": rows.text(name), "after": after})]

    def tagged(self, tag: str, *, limit: int = 1000, at: datetime | None = None) -> Sequence[Event]:
        """The newest ``limit`` events with a tag, in log order; with ``at`` of what had happened by then."""
        found = self._pool.all(_TAGGED, {"tag": rows.text(tag), "limit": limit, "at": at})
        return [rows.event_of(row) for row in reversed(found)]

    def latest(self, *, limit: int, at: datetime | None = None) -> Sequence[Event]:
        """The newest ones, in log order; with ``at`` of what had happened by then."""
        return [rows.event_of(row) for row in reversed(self._pool.all(_LATEST, {"limit": limit, "at": at}))]

    def all(self, *, at: datetime | None = None) -> Iterator[Event]:
        """The whole log up to its head at the start, in order, in batches; with ``at`` only what had happened by then."""
        until, cursor = self.head(), 0
        while cursor < until:
            batch, cursor = self._between(cursor, until, _BATCH)
            yield from (event for event in batch if at is None or event.at <= at)

    def fold(self, *, at: datetime | None = None) -> Tables:
        """The tables as the log and its anchors tell them; with ``at`` as they were then, unless events up to a later moment
        went to an archive."""
        until = self.head()
        return self._pool.repeat(lambda: self._fold(until, at))

    def _fold(self, until: int, at: datetime | None) -> Tables:
        """In one snapshot: an archive that is made meanwhile takes nothing away from it."""
        with self._pool.transaction(is_snapshot=True) as connection:
            folder, cursor = Folder(held(connection)), 0
            while cursor < until:
                found = connection.execute(_BETWEEN, {"after": cursor, "until": until, "limit": _BATCH}).fetchall()
                for event in map(rows.event_of, found):
                    cursor = event.position
                    if at is None or event.at <= at:
                        folder.apply(event)
                if len(found) < _BATCH:
                    break
        return folder.tables

    def archived_in(self, stream: str) -> str | None:
        """The file that the newest of a stream's archived events are in."""
        row = self._pool.one(ARCHIVED_IN, {"stream": rows.text(stream)})
        return None if row is None else str(row[0])

    def append(
        self, fact: Fact, *, stream: str, tags: Sequence[str], unless: Condition, correlation: str | None = None
    ) -> Event | None:
        """The next event of a stream that has no row of its own; None if the condition does not hold any more."""
        row = self._pool.write(
            _APPEND,
            {
                "stream": rows.text(stream),
                "type": fact.TYPE,
                "tags": [rows.text(tag) for tag in tags],
                "correlation": correlation,
                "data": rows.data_of(fact),
                "types": list(unless.types),
                "unless": [rows.text(tag) for tag in unless.tags],
                "after": unless.after,
            },
        )
        return None if row is None else rows.event_of(row)

    def head(self) -> int:
        """A cursor at the end of the log: no event at or before it is still to come.

        Raises TransientError if a writer keeps its transaction open for longer than a writer may.
        """
        last = self._last()
        if not self._wait_for_writers():
            raise TransientError(
                "the end of the log is not known yet",
                why="a transaction that writes has been open for too long, in this database or another of the server",
                fix="try again; pg_stat_activity names the session (backend_xid, datname)",
            )
        return last

    def tail(self, cursor: int, *, limit: int = 500) -> tuple[Sequence[Event], int]:
        """Events after the cursor and the next cursor.

        Waits for open writers; if one stays open for too long, returns nothing and the same cursor, and skips nothing.
        """
        last = self._last()
        if last <= cursor or not self._wait_for_writers():
            return (), cursor
        return self._between(cursor, last, limit)

    def _between(self, after: int, until: int, limit: int) -> tuple[Sequence[Event], int]:
        found = [
            rows.event_of(row) for row in self._pool.all(_BETWEEN, {"after": after, "until": until, "limit": limit})
        ]
        return found, found[-1].position if len(found) == limit else until

    def _last(self) -> int:
        row = self._pool.one(_LAST)
        assert row is not None
        return int(row[0])

    def _wait_for_writers(self) -> bool:
        """Whether everyone who might hold a position that was given out before now has come to an end."""
        row = self._pool.one(_XID)
        assert row is not None
        xid = {"xid": row[0]}
        give_up_at = time.monotonic() + self._barrier_timeout.total_seconds()
        pause = _PAUSE_SECONDS
        while (past := self._pool.one(_IS_PAST, xid)) is None or not past[0]:
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)
        return True
