"""The store over one Postgres database: its parts put together, and the wait for news."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

import psycopg

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.blobs import PostgresBaselines, PostgresBlobs
from tamma.adapters.postgres.claims import PostgresClaims
from tamma.adapters.postgres.connect import connect_raw, translate_errors
from tamma.adapters.postgres.connections import Connections
from tamma.adapters.postgres.effects import PostgresEffects
from tamma.adapters.postgres.events import PostgresEvents
from tamma.adapters.postgres.pauses import PostgresPauses
from tamma.adapters.postgres.pool import PATIENCE, Pool
from tamma.adapters.postgres.sql import CHANNEL, IS_LIVE
from tamma.adapters.postgres.tasks import PostgresTasks
from tamma.adapters.postgres.workers import PostgresWorkers

_PING: Final = "SELECT tamma_now()"
_LISTEN: Final = f"LISTEN {CHANNEL}"
# What an orchestrator waits for changes one of these numbers; all are counted in small partial indexes.
_QUEUE: Final = f"""SELECT (SELECT jsonb_object_agg(state, n)
        FROM (SELECT state, count(*) AS n FROM task WHERE {IS_LIVE} GROUP BY state) AS live)::text,
    (SELECT count(*) FROM task WHERE notice IS NOT NULL)"""
_POLL_SECONDS: Final = 1.0


class PostgresStore:
    """``ports.store.Store``; safe to share between threads, except for ``wait_for_news``, which one thread calls.

    ``listen_url`` leads straight to the server (not through a pooler that shares sessions); without one, news are polled.
    ``patience`` is how long a database that was reached may be away before a call says so.
    """

    def __init__(
        self, connections: Connections, *, listen_url: str | None = None, patience: timedelta = PATIENCE
    ) -> None:
        self._pool = Pool(connections, patience=patience)
        self._listen_url = listen_url
        self._listener: psycopg.Connection[rows.Row] | None = None
        self._queue_seen: rows.Row | None = None
        self.tasks: Final = PostgresTasks(self._pool)
        self.claims: Final = PostgresClaims(self._pool)
        self.effects: Final = PostgresEffects(self._pool)
        self.events: Final = PostgresEvents(self._pool)
        self.pauses: Final = PostgresPauses(self._pool, self.events)
        self.workers: Final = PostgresWorkers(self._pool)
        self.blobs: Final = PostgresBlobs(self._pool)
        self.baselines: Final = PostgresBaselines(self._pool)

    def ping(self) -> datetime:
        """The database's clock."""
        row = self._pool.one(_PING)
        assert row is not None
        return rows.utc(row[0])

    def wait_for_news(self, timeout: timedelta) -> bool:
        """Until something was written, or the time is over. News since the last call count, also our own."""
        self._pool.pay_news()
        if self._listen_url is None:
            return self._poll(timeout)
        with translate_errors():
            try:
                return self._listen(self._listen_url, timeout)
            except psycopg.Error:
                self._hang_up()
                raise

    def close(self) -> None:
        """Give connections back."""
        self._hang_up()
        self._pool.close()

    def _listen(self, url: str, timeout: timedelta) -> bool:
        is_new = self._listener is None
        if self._listener is None:
            self._listener = connect_raw(url, application_name="tamma listen")
            self._listener.execute(_LISTEN)
        if is_new:
            # Whatever was written before we listened went unheard.
            return True
        heard = any(True for _ in self._listener.notifies(timeout=timeout.total_seconds(), stop_after=1))
        for _ in self._listener.notifies(timeout=0):
            pass  # one wake-up for all that came together
        return heard

    def _hang_up(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _poll(self, timeout: timedelta) -> bool:
        give_up_at = time.monotonic() + timeout.total_seconds()
        while True:
            seen, self._queue_seen = self._queue_seen, self._pool.one(_QUEUE)
            if seen != self._queue_seen:
                return True
            left = give_up_at - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _POLL_SECONDS))
