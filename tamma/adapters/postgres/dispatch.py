"""Reservations: a slot between an orchestrator's decision and the worker's claim, within limits that hold over all of them."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import (
    BY_TAG,
    IS_CLAIMABLE,
    IS_DUE,
    IS_RUNNING,
    IS_UNRESERVED,
    SKIP_LOCKED,
    change,
    locked,
)
from tamma.core.event import TaskDispatched
from tamma.core.ids import TaskId, WorkerId

_RESERVERS: Final = 7_233_161_002  # the advisory lock's key; any number, but always this one
# A statement's snapshot is older than the locks it takes, so counting must come in the statement after the lock.
_LOCK: Final = f"SELECT pg_advisory_xact_lock({_RESERVERS})"
_NOW: Final = "(SELECT now FROM start)"
# A task holds a slot while it runs, and from its reservation to the claim; a reservation that is overdue holds none.
OCCUPIED: Final = f"""SELECT forge, repository FROM task WHERE {IS_RUNNING}
    UNION ALL SELECT forge, repository FROM task WHERE dispatched_by IS NOT NULL AND dispatch_until > {_NOW}"""
_RESERVE: Final = change(
    before=f"start AS MATERIALIZED (SELECT tamma_now() AS now), occupied AS MATERIALIZED ({OCCUPIED}),",
    held=locked(
        f"""id = %(task_id)s AND {IS_CLAIMABLE} AND {IS_DUE.format(now=_NOW)}
        AND {IS_UNRESERVED.format(now=_NOW)} AND (SELECT count(*) FROM occupied) < %(running_max)s
        AND (SELECT count(*) FROM occupied AS o WHERE o.forge = task.forge AND o.repository = task.repository)
            < %(running_per_repository_max)s""",
        how=SKIP_LOCKED,  # who holds the row has something else in mind; waiting would hold up all that reserve
    ),
    sets="dispatched_by = %(by)s, dispatch_until = told.at + %(duration)s",
    type_="'TASK.DISPATCH.SUCCEEDED'",
    tags=BY_TAG,
    returns="id",
)
_RELEASE: Final = """UPDATE task SET dispatched_by = NULL, dispatch_until = NULL
    WHERE id = %(task_id)s AND dispatched_by IS NOT NULL
      AND (dispatched_by = %(by)s::text OR (%(by)s::text IS NULL AND dispatch_until <= tamma_now()))"""


def reserve(
    pool: Pool,
    task_id: TaskId,
    *,
    by: WorkerId,
    duration: timedelta,
    running_max: int,
    running_per_repository_max: int,
) -> bool:
    """Whether the task got a slot; reservers stand in line, so that no two count the same free slot."""
    values = {
        "task_id": rows.text(task_id),
        "by": rows.text(by),
        "duration": duration,
        "running_max": running_max,
        "running_per_repository_max": running_per_repository_max,
        "data": rows.data_of(TaskDispatched(by=by)),
    }
    with pool.transaction() as connection:
        connection.execute(_LOCK)
        return connection.execute(_RESERVE, values).fetchone() is not None


def release(pool: Pool, task_id: TaskId, *, by: WorkerId | None) -> bool:
    """Clear ``by``'s reservation, or (``by`` None) an overdue one. Volatile, so no event."""
    return pool.run(_RELEASE, {"task_id": rows.text(task_id), "by": rows.text_or_none(by)}) == 1
