"""Rows by the thousand, and the peer's queue filled the way its documentation tells."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from typing import Final

import psycopg

_numbers = count(1)
_FILL: Final = """INSERT INTO task (id, forge, repository, issue, kind, generation, state, title, digest, snapshot, correlation,
        created_at, asked_by, finished_at, outcome)
    SELECT gen_random_uuid()::text, 'local', %(repository)s, n::text, 'resolve', 1, %(state)s, 'A title', 'digest', 'snapshot',
        'correlation', clock_timestamp(), 'label', CASE WHEN %(state)s = 'succeeded' THEN clock_timestamp() END,
        CASE WHEN %(state)s = 'succeeded' THEN 'delivered' END
    FROM generate_series(1, %(number)s) AS n"""


def fill(url: str, number: int, *, state: str = "queued") -> None:
    """So many tasks of issues that nobody had before."""
    with psycopg.connect(url, autocommit=True) as connection:
        values = {"repository": f"demo{next(_numbers)}", "state": state, "number": number}
        connection.execute(_FILL, values)


def vacuum(url: str) -> None:
    """Settle the table, as autovacuum does after a while."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


class PeerQueue:
    """procrastinate's tables in a database of its own."""

    def __init__(self, url: str) -> None:
        procrastinate = import_module("procrastinate")
        self._app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
        self._app.open()
        self._app.schema_manager.apply_schema()
        self._nothing = self._app.configure_task("nothing")

    def fill(self, number: int) -> None:
        """Defer so many jobs."""
        self._nothing.batch_defer(*({} for _ in range(number)))

    def defer(self) -> None:
        """Defer one."""
        self._nothing.defer()

    def close(self) -> None:
        """Give connections back."""
        self._app.close()
