"""What a tick needs to know, in one snapshot; every part is served by a partial index, however many tasks are finished."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import IS_ABLE, IS_CLAIMABLE, IS_DUE, IS_LIVE, IS_RUNNING, IS_UNRESERVED, TASK_COLUMNS
from tamma.core.ids import TaskId, WorkerId
from tamma.core.task import TaskState
from tamma.ports.store import Reservation, Scope, Survey

_AT: Final = "%(now)s::timestamptz"
_NOW: Final = "SELECT tamma_now()"
# These and the reserved ones are not limited here: who dispatches holds them to `limits.running`, and each repository to its share.
_RUNNING: Final = f"""SELECT {TASK_COLUMNS}, lease_expires_at <= {_AT} FROM task WHERE {IS_RUNNING}
    ORDER BY created_at, id"""
_OF_WORKABLE: Final = "unnest(%(workable)s::text[]) AS place (name) CROSS JOIN LATERAL"
_OF_SERVED: Final = "unnest(%(repositories)s::text[]) AS place (name) CROSS JOIN LATERAL"
_IS_THERE: Final = "forge = %(forge)s AND repository = place.name"
# So many of each repository: the queue of a busy one must not hide that of another. Each is read from its own part of the
# index and no further.
READY: Final = f"""SELECT ready.* FROM {_OF_WORKABLE}
    (SELECT {TASK_COLUMNS} FROM task WHERE {_IS_THERE} AND {IS_CLAIMABLE}
     AND {IS_DUE.format(now=_AT)} AND {IS_UNRESERVED.format(now=_AT)}
     AND {IS_ABLE}
     ORDER BY priority DESC, created_at, id LIMIT %(limit)s) AS ready ORDER BY priority DESC, created_at, id"""
_RESERVED: Final = f"""SELECT id, forge, repository, dispatched_by, dispatch_until, dispatch_until <= {_AT} FROM task
    WHERE dispatched_by IS NOT NULL ORDER BY dispatch_until"""
NOTICES: Final = f"""SELECT untold.* FROM {_OF_SERVED}
    (SELECT {TASK_COLUMNS} FROM task WHERE {_IS_THERE} AND notice IS NOT NULL AND id > %(notices_after)s
     ORDER BY id LIMIT %(limit)s) AS untold ORDER BY id LIMIT %(limit)s"""
_SILENT: Final = f"""SELECT id FROM worker WHERE state IN ('online', 'draining')
    AND last_beat_at < {_AT} - %(patience)s::interval ORDER BY last_beat_at LIMIT %(limit)s"""
LIVE: Final = f"""SELECT live.* FROM {_OF_SERVED}
    (SELECT {TASK_COLUMNS} FROM task WHERE {_IS_THERE} AND {IS_LIVE} AND id > %(live_after)s
     ORDER BY id LIMIT %(limit)s) AS live ORDER BY id LIMIT %(limit)s"""
WAITING: Final = f"""SELECT EXISTS (SELECT FROM {_OF_WORKABLE}
    (SELECT id FROM task WHERE {_IS_THERE} AND {IS_CLAIMABLE} AND {IS_ABLE}
     ORDER BY priority DESC, created_at, id LIMIT 1) AS one)"""
FIRST_DUE: Final = f"""SELECT min(one.run_after) FROM {_OF_WORKABLE}
    (SELECT run_after FROM task WHERE {_IS_THERE} AND state = '{TaskState.RETRYABLE}' AND run_after > {_AT} AND {IS_ABLE}
     ORDER BY run_after LIMIT 1) AS one"""


def survey(
    pool: Pool,
    scope: Scope,
    *,
    limit: int,
    patience: timedelta,
    live_after: TaskId | None,
    notices_after: TaskId | None,
) -> Survey:
    """The facts; ``patience`` is how long a worker may give no sign of life."""
    with pool.transaction(is_snapshot=True) as connection:
        now_row = connection.execute(_NOW).fetchone()
        assert now_row is not None
        asked = {"now": now_row[0], "limit": limit, "patience": patience} | _within(scope)
        asked |= {"live_after": live_after or "", "notices_after": notices_after or ""}

        def read(statement: str) -> list[rows.Row]:
            return connection.execute(statement, asked).fetchall()

        running = [(rows.task_of(row[:-1]), bool(row[-1])) for row in read(_RUNNING)]
        ready = [rows.task_of(row) for row in read(READY)]
        reserved = read(_RESERVED)
        notices = [rows.task_of(row) for row in read(NOTICES)]
        silent = [WorkerId(row[0]) for row in read(_SILENT)]
        live = [rows.task_of(row) for row in read(LIVE)]
        is_waiting, first_due = read(WAITING)[0][0], read(FIRST_DUE)[0][0]
    is_running = any(task.ref.forge == scope.forge and task.ref.repository in scope.repositories for task, _ in running)
    occupied: dict[tuple[str, str], int] = {}
    places = [(task.ref.forge, task.ref.repository) for task, _ in running]
    for place in places + [(row[1], row[2]) for row in reserved if not row[5]]:
        occupied[place] = occupied.get(place, 0) + 1
    return Survey(
        now=rows.utc(asked["now"]),
        expired=tuple(task for task, is_expired in running if is_expired),
        ready=tuple(ready),
        occupied=occupied,
        overdue=tuple(_reservation_of(row) for row in reserved if row[5]),
        notices=tuple(notices),
        silent_workers=tuple(silent),
        live=tuple(live),
        is_moving=is_running or is_waiting,
        running=tuple(task for task, _ in running),
        first_due=None if first_due is None else rows.utc(first_due),
    )


def _within(scope: Scope) -> dict[str, object]:
    named = {
        "repositories": scope.repositories,
        "workable": scope.workable,
        "capabilities": scope.capabilities,
    }
    lists = {name: [rows.text(value) for value in sorted(values)] for name, values in named.items()}
    return {"forge": rows.text(scope.forge), **lists}


def _reservation_of(row: rows.Row) -> Reservation:
    return Reservation(task_id=TaskId(row[0]), by=WorkerId(row[3]), until=rows.utc(row[4]))
