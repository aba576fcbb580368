"""The pieces that every writing statement is made of: the guard, one reading of the clock, and the event beside it.

One operation is one statement: lock the rows it is about, read the clock once *after* the lock was got (so that times
in a stream never run backwards), change the rows, append the event, return. SQL text is constant; values travel as
parameters.
"""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

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
EVENT_COLUMNS: Final = "position, stream, version, at, tags, correlation, type, data"


def _quoted(states: frozenset[TaskState]) -> str:
    return ", ".join(f"'{state}'" for state in TaskState if state in states)


IS_CLAIMABLE: Final = f"state IN ({_quoted(CLAIMABLE)})"
IS_LIVE: Final = f"state IN ({_quoted(LIVE)})"
IS_RUNNING: Final = f"state = '{TaskState.RUNNING}'"
IS_UNRESERVED: Final = "(dispatch_until IS NULL OR dispatch_until <= {now})"
IS_DUE: Final = "(run_after IS NULL OR run_after <= {now})"

# The fence (DESIGN section 5): every write of an attempt goes through it.
LEASE: Final = f"id = %(task_id)s AND {IS_RUNNING} AND epoch = %(epoch)s AND worker = %(worker)s AND lease_expires_at > tamma_now()"
HELD: Final = f"SELECT id FROM task WHERE {LEASE} FOR NO KEY UPDATE"
RESERVATION_OFF: Final = "dispatched_by = NULL, dispatch_until = NULL"
LEASE_OFF: Final = "worker = NULL, phase = NULL, lease_expires_at = NULL"

_TASK_TAGS: Final = "ARRAY['task:' || id, 'issue:' || forge || '/' || repository || '#' || issue, 'repo:' || forge || '/' || repository]"
WORKER_TAG: Final = "ARRAY['worker:' || %(worker)s::text]"
BY_TAG: Final = "ARRAY['worker:' || %(by)s::text]"


def iso(moment: str) -> str:
    """A moment as the JSON string that ``datetime.fromisoformat`` reads back, in UTC."""
    return f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""


def append(*, source: str, stream: str, type_: str, tags: str, correlation: str, data: str) -> str:
    """The one place that builds the event's INSERT: a row per row of ``source``, which has ``version`` and ``at``."""
    return f"""INSERT INTO event (stream, version, type, tags, correlation, at, data)
        SELECT {stream}, version, {type_}, {tags}, {correlation}, at, {data} FROM {source}"""


def tell(*, type_: str, data: str = "%(data)s::jsonb", tags: str = "", source: str = "t") -> str:
    """The event of a task's change; ``type_`` and ``data`` are SQL expressions over the changed row."""
    extra = f" || {tags}" if tags else ""
    return append(
        source=source,
        stream="'task:' || id",
        type_=type_,
        tags=_TASK_TAGS + extra,
        correlation="correlation",
        data=data,
    )


def change(*, held: str, sets: str, event: str, carry: str = "", returns: str = TASK_COLUMNS, before: str = "") -> str:
    """A guarded change of task rows with its event, in one statement.

    ``held`` selects and locks (its columns are seen as ``clock.…`` by ``sets``, the clock's reading as ``clock.at``);
    ``carry`` are further columns for the event; ``before`` are CTEs that stand first.
    """
    more = f", {carry}" if carry else ""
    return f"""WITH {before} held AS MATERIALIZED ({held}),
    clock AS MATERIALIZED (SELECT held.*, tamma_now() AS at FROM held),
    t AS (UPDATE task SET version = task.version + 1, {sets} FROM clock WHERE task.id = clock.id
          RETURNING task.*, clock.at{more}),
    e AS ({event})
    SELECT {returns} FROM t"""
