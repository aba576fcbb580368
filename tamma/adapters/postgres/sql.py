"""The pieces that every writing statement is made of: the guard, one reading of the clock, and the event beside it.

One operation is one statement: lock the rows it is about, read the clock once *after* the lock was got (so that times
in a stream never run backwards), put the event together, change the rows, append the event, return. The row carries the
version and the hash of its stream's last event: a waiter reads them from the row it locked, while its snapshot of the log
is older than the lock. SQL text is constant; values travel as parameters.
"""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tamma.core.task import CLAIMABLE, LIVE, TaskState

CHANNEL: Final = "tamma"
# A hint may be lost with the machine, so it does not wait for the disk as a commit of ours does.
NEWS: Final = f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{CHANNEL}', '')"

TASK_COLUMNS: Final = (
    "id, forge, repository, issue, kind, generation, state, title, digest, snapshot, correlation, created_at, asked_by, "
    "epoch, version, priority, capabilities, attempts, infra, interruptions, crashes, run_after, worker, phase, outcome, "
    "reason, notice, approved, change, finished_at"
)
EFFECT_COLUMNS: Final = "key, task_id, kind, state, epoch, intent, result"
WORKER_COLUMNS: Final = "id, host, pid, role, release, capabilities, state, registered_at, last_beat_at"
EVENT_COLUMNS: Final = "position, stream, version, at, tags, correlation, type, data, hash"


def _quoted(states: frozenset[TaskState]) -> str:
    return ", ".join(f"'{state}'" for state in TaskState if state in states)


IS_CLAIMABLE: Final = f"state IN ({_quoted(CLAIMABLE)})"
IS_LIVE: Final = f"state IN ({_quoted(LIVE)})"
IS_RUNNING: Final = f"state = '{TaskState.RUNNING}'"
IS_UNRESERVED: Final = "(dispatch_until IS NULL OR dispatch_until <= {now})"
IS_DUE: Final = "(run_after IS NULL OR run_after <= {now})"
# Inside CASE the planner takes an even chance for it. It thinks <@ to be so rare that it would read and sort the whole
# queue, instead of taking the first rows of the index.
IS_ABLE: Final = "CASE WHEN capabilities <@ %(capabilities)s::text[] THEN true ELSE false END"

# The fence (DESIGN section 5): every write of an attempt goes through it.
LEASE: Final = f"id = %(task_id)s AND {IS_RUNNING} AND epoch = %(epoch)s AND worker = %(worker)s AND lease_expires_at > tamma_now()"
# What an event needs of its task's row, as it is under the lock.
_LOCKED: Final = "id, forge, repository, issue, correlation, epoch, version, head, worker"
_LOCK: Final = "FOR NO KEY UPDATE"
SKIP_LOCKED: Final = f"{_LOCK} SKIP LOCKED"
RESERVATION_OFF: Final = "dispatched_by = NULL, dispatch_until = NULL"
LEASE_OFF: Final = "worker = NULL, phase = NULL, lease_expires_at = NULL"

TASK_TAGS: Final = "ARRAY['task:' || id, 'issue:' || forge || '/' || repository || '#' || issue, 'repo:' || forge || '/' || repository]"
WORKER_TAG: Final = "ARRAY['worker:' || %(worker)s::text]"
BY_TAG: Final = "ARRAY['worker:' || %(by)s::text]"


def iso(moment: str) -> str:
    """A moment as the JSON string that ``datetime.fromisoformat`` reads back, in UTC."""
    return f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""


def locked(where: str, *, how: str = _LOCK) -> str:
    """Select and lock the task's row that satisfies ``where``; what its event needs of it."""
    return f"SELECT {_LOCKED} FROM task WHERE {where} {how}"


HELD: Final = locked(LEASE)


# Taken after the row's lock, which gives the transaction its id: the tailing reader's barrier rests on that order.
POSITION: Final = "nextval('event_position_seq') AS position"


def append(table: str, *, prefix: str, correlation: str, sets: str, columns: Iterable[str]) -> str:
    """The one place that writes events of rows: from ``told`` (the locked row, ``at``, ``position``, ``type``, ``tags``,
    ``data``) to ``t`` (these ``columns`` of the changed row, and ``at`` and what else its event holds) and its event, each the next of
    its stream and chained to the one before."""
    chain = (
        f"tamma_chain(told.head, '{prefix}' || told.id, told.version + 1, told.position, told.type, told.tags, "
        f"{correlation}, told.at, told.data)"
    )
    kept = ", ".join(
        f"{table}.{column}" for column in dict.fromkeys(("id", "version", "head", *columns)) if column != "at"
    )
    return f"""t AS (UPDATE {table} SET version = told.version + 1, head = {chain}{f", {sets}" if sets else ""}
          FROM told WHERE {table}.id = told.id
          RETURNING {kept}, told.at, told.position, told.type, told.tags, {correlation} AS correlated, told.data),
    e AS (INSERT INTO event (position, stream, version, type, tags, correlation, at, data, hash) OVERRIDING SYSTEM VALUE
          SELECT position, '{prefix}' || id, version, type, tags, correlated, at, data, head FROM t)"""


def change(
    *,
    held: str,
    sets: str,
    type_: str,
    data: str = "%(data)s::jsonb",
    tags: str = "",
    returns: str = TASK_COLUMNS,
    before: str = "",
) -> str:
    """A guarded change of a task's row with its event, in one statement that returns columns of the changed row: the fewer the
    faster, since a server describes each of them every time.

    ``held`` selects and locks (see ``locked``); its columns and the clock's reading ``at`` are there for ``type_``, ``data``
    and ``tags`` by themselves and for ``sets`` as ``told.…``. ``before`` are further CTEs before all.
    """
    return f"{_changed(held, sets, type_, data, tags, before, columns=returns.split(', '))} SELECT {returns} FROM t"


def change_and(also: str, *, held: str, type_: str, tags: str, returns: str, data: str = "%(data)s::jsonb") -> str:
    """As ``change`` of nothing but the version; then ``also``, a CTE that may read ``id``, ``epoch`` and ``at`` of ``t``, and of
    which columns are returned."""
    name = also.partition(" ")[0]
    return f"{_changed(held, '', type_, data, tags, '', columns=['epoch'])}, {also} SELECT {returns} FROM {name}"


def _changed(held: str, sets: str, type_: str, data: str, tags: str, before: str, *, columns: Iterable[str]) -> str:
    every_tag = f"{TASK_TAGS} || {tags}" if tags else TASK_TAGS
    # The clock stands to the side of the locked row, not beside it in its list: there it would be read before the lock is got.
    return f"""WITH {before} held AS MATERIALIZED ({held}),
    told AS MATERIALIZED (SELECT held.*, at, {POSITION}, {type_} AS type, {every_tag} AS tags, {data} AS data
          FROM held, LATERAL (SELECT tamma_now() AS at, held.id OFFSET 0) AS clock (at, of)),
    {append("task", prefix="task:", correlation="told.correlation", sets=sets, columns=columns)}"""
