"""Effects on the outside world: intent before, record after, both in the task's stream.

Each is a short transaction that first locks the task's row: whether an effect is done, or held by somebody else, must be
judged by a snapshot taken *after* the lock, and there are only a handful of effects in a task's life.
"""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import psycopg

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.claims import held, lost, no_such_task
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import BY_TAG, EFFECT_COLUMNS, HELD, WORKER_TAG, change_and, locked
from tamma.core.effect import Effect, EffectKind, EffectState
from tamma.core.errors import LeaseLost, PermanentError
from tamma.core.event import EffectIntended, EffectRecorded
from tamma.core.ids import TaskId, WorkerId
from tamma.core.lease import Lease

Connection = psycopg.Connection[rows.Row]

_LOCK: Final = "SELECT epoch FROM task WHERE id = %(task_id)s FOR NO KEY UPDATE"
_FIND: Final = f"SELECT {EFFECT_COLUMNS} FROM effect WHERE key = %(key)s"
_IS_ELSEWHERE: Final = "SELECT held_by <> %(by)s AND held_until > tamma_now() FROM effect WHERE key = %(key)s"
_HOLDER: Final = "SELECT coalesce(held_by = %(by)s, false), held_by FROM effect WHERE key = %(key)s"
_IS_OURS: Final = "SELECT held_by = %(by)s AND held_until > tamma_now() FROM effect WHERE key = %(key)s"
_HOLD: Final = f"""UPDATE effect SET held_by = %(holder)s, held_until = tamma_now() + %(hold)s WHERE key = %(key)s
    RETURNING {EFFECT_COLUMNS}"""
_OF_TASK: Final = f"SELECT {EFFECT_COLUMNS} FROM effect WHERE task_id = %(task_id)s ORDER BY key"
_THIS: Final = locked("id = %(task_id)s")


def _intend(tags: str) -> str:
    return change_and(
        f"""f AS (INSERT INTO effect AS o (key, task_id, kind, state, epoch, intent, held_by, held_until)
          SELECT %(key)s::text, id, %(kind)s::text, '{EffectState.INTENDED}', epoch, %(intent)s::jsonb,
                 %(holder)s::text, at + %(hold)s::interval FROM t
          ON CONFLICT (key) DO UPDATE SET state = excluded.state, epoch = excluded.epoch, intent = excluded.intent,
                 result = excluded.result, held_by = excluded.held_by, held_until = excluded.held_until
          RETURNING {EFFECT_COLUMNS})""",
        held=_THIS,
        type_="'EFFECT.INTEND.SUCCEEDED'",
        tags=tags,
        returns=EFFECT_COLUMNS,
    )


def _record(tags: str) -> str:
    return change_and(
        """f AS (UPDATE effect SET state = %(state)s, epoch = t.epoch, result = %(result)s::jsonb, held_by = NULL,
                 held_until = NULL FROM t WHERE key = %(key)s
          RETURNING key, task_id, effect.kind, effect.state, effect.epoch, intent, result)""",
        held=_THIS,
        type_="'EFFECT.RECORD.SUCCEEDED'",
        tags=tags,
        returns=EFFECT_COLUMNS,
    )


_INTEND: Final = _intend(WORKER_TAG)
_INTEND_UNLEASED: Final = _intend(BY_TAG)
_RECORD: Final = _record(WORKER_TAG)
_RECORD_UNLEASED: Final = _record(BY_TAG)


class PostgresEffects:
    """``ports.store.Effects``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def intend(self, lease: Lease, *, key: str, kind: EffectKind, intent: Mapping[str, str]) -> Effect:
        """Write the intent under the lease. An effect already ``done``, or intended so, is returned as it is, unchanged."""

        def write() -> Effect | None:
            with self._pool.transaction() as connection:
                if connection.execute(HELD, held(lease)).fetchone() is None:
                    return None
                known = _find(connection, key)
                if known is not None and (known.state is EffectState.DONE or _is_same(known, intent, lease.epoch)):
                    return known
                values = {
                    **_intended(key, kind, intent, epoch=lease.epoch),
                    **held(lease),
                    "holder": None,
                    "hold": None,
                }
                return _one(connection, _INTEND, values)

        return self._fenced(lease, write)

    def record(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """It is done, and what came of it. A done effect stays as it is."""
        return self._end(lease, key, EffectState.DONE, result)

    def abandon(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """It will not be done, and why. A done effect stays as it is."""
        return self._end(lease, key, EffectState.ABANDONED, result)

    def _end(self, lease: Lease, key: str, state: EffectState, result: Mapping[str, str]) -> Effect:
        def write() -> Effect | None:
            with self._pool.transaction() as connection:
                if connection.execute(HELD, held(lease)).fetchone() is None:
                    return None
                known = _known(connection, key)
                is_told = (known.state, known.epoch, dict(known.result)) == (state, lease.epoch, dict(result))
                if known.state is EffectState.DONE or is_told:
                    return known
                return _one(connection, _RECORD, {**_recorded(key, state, result, epoch=lease.epoch), **held(lease)})

        return self._fenced(lease, write)

    def intend_unleased(
        self, task_id: TaskId, *, key: str, kind: EffectKind, intent: Mapping[str, str], by: WorkerId, hold: timedelta
    ) -> Effect | None:
        """One holder at a time; None if somebody else holds it now. A done effect is returned as it is."""
        holder = {"by": rows.text(by), "holder": rows.text(by), "hold": hold, "task_id": rows.text(task_id)}

        def write() -> Effect | None:
            with self._pool.transaction() as connection:
                epoch = _lock(connection, task_id)
                known = _find(connection, key)
                if known is not None and known.state is EffectState.DONE:
                    return known
                elsewhere = connection.execute(_IS_ELSEWHERE, {"by": holder["by"], "key": rows.text(key)}).fetchone()
                if elsewhere is not None and elsewhere[0]:
                    return None
                if known is not None and _is_same(known, intent, epoch):
                    # The intent stands in the log already; only the hold, which is volatile, is new.
                    return _one(connection, _HOLD, {**holder, "key": rows.text(key)})
                return _one(connection, _INTEND_UNLEASED, {**_intended(key, kind, intent, epoch=epoch), **holder})

        return self._pool.repeat(write)

    def holds(self, key: str, *, by: WorkerId) -> bool:
        """Whether ``by`` holds it now."""
        row = self._pool.one(_IS_OURS, {"key": rows.text(key), "by": rows.text(by)})
        return row is not None and bool(row[0])

    def record_unleased(self, task_id: TaskId, *, key: str, result: Mapping[str, str], by: WorkerId) -> Effect:
        """Its record, by the holder, even after the hold's time if nobody else took it since.

        Raises LeaseLost if somebody did. A second record of a done effect is a no-op.
        """

        def write() -> Effect:
            with self._pool.transaction() as connection:
                epoch = _lock(connection, task_id)
                known = _known(connection, key)
                if known.state is EffectState.DONE:
                    return known
                holder = connection.execute(_HOLDER, {"by": rows.text(by), "key": rows.text(key)}).fetchone()
                assert holder is not None
                if not holder[0]:
                    raise LeaseLost(f"effect {key} is not ours to record", why=f"{holder[1] or 'nobody'} holds it")
                values = {"by": rows.text(by), "task_id": rows.text(task_id)}
                return _one(
                    connection, _RECORD_UNLEASED, {**_recorded(key, EffectState.DONE, result, epoch=epoch), **values}
                )

        return self._pool.repeat(write)

    def of_task(self, task_id: TaskId) -> Sequence[Effect]:
        """All of one task."""
        return [rows.effect_of(row) for row in self._pool.all(_OF_TASK, {"task_id": rows.text(task_id)})]

    def _fenced(self, lease: Lease, write: Callable[[], Effect | None]) -> Effect:
        """Each write looks at the effect first, so that it may be repeated where nobody knows whether it was done."""
        effect = self._pool.repeat(write)
        if effect is None:
            raise lost(self._pool, lease)
        return effect


def _is_same(known: Effect, intent: Mapping[str, str], epoch: int) -> bool:
    return (known.state, known.epoch, dict(known.intent)) == (EffectState.INTENDED, epoch, dict(intent))


def _intended(key: str, kind: EffectKind, intent: Mapping[str, str], *, epoch: int) -> dict[str, Any]:
    fact = EffectIntended(key=key, kind=kind, epoch=epoch, intent=intent)
    return {
        "key": rows.text(key),
        "kind": kind.value,
        "intent": rows.json_of(intent),
        "data": rows.data_of(fact),
    }


def _recorded(key: str, state: EffectState, result: Mapping[str, str], *, epoch: int) -> dict[str, Any]:
    fact = EffectRecorded(key=key, state=state, epoch=epoch, result=result)
    return {
        "key": rows.text(key),
        "state": state.value,
        "result": rows.json_of(result),
        "data": rows.data_of(fact),
    }


def _lock(connection: Connection, task_id: TaskId) -> int:
    row = connection.execute(_LOCK, {"task_id": rows.text(task_id)}).fetchone()
    if row is None:
        raise no_such_task(task_id)
    return int(row[0])


def _find(connection: Connection, key: str) -> Effect | None:
    row = connection.execute(_FIND, {"key": rows.text(key)}).fetchone()
    return None if row is None else rows.effect_of(row)


def _known(connection: Connection, key: str) -> Effect:
    known = _find(connection, key)
    if known is None:
        raise PermanentError(
            f"effect {key} cannot be recorded", why="it was never intended", fix="report this as a bug"
        )
    return known


def _one(connection: Connection, statement: str, values: Mapping[str, Any]) -> Effect:
    row = connection.execute(statement, values).fetchone()
    assert row is not None, "the row is locked, so the write finds it"
    return rows.effect_of(row)
