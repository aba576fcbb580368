"""The registry of processes. A beat is volatile; a change of state is an event in the worker's own stream."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import POSITION, WORKER_COLUMNS, WORKER_TAG, append
from tamma.core.event import WorkerRegistered, WorkerStateChanged, worker_stream
from tamma.core.ids import WorkerId
from tamma.core.worker import WorkerRecord, WorkerRole, WorkerState

_TOLD: Final = f"tamma_now() AS at, {POSITION}, %(type)s::text AS type, {WORKER_TAG} AS tags, %(data)s::jsonb AS data"


def _changed(where: str) -> str:
    """A change of state to ``%(state)s`` of one worker that satisfies ``where``, with its event."""
    sets = "state = %(state)s, last_beat_at = CASE WHEN %(state)s = 'online' THEN told.at ELSE last_beat_at END"
    return f"""WITH held AS MATERIALIZED
        (SELECT id, version, head FROM worker WHERE id = %(worker)s AND {where} FOR NO KEY UPDATE),
    told AS MATERIALIZED (SELECT held.*, {_TOLD} FROM held),
    {append("worker", prefix="worker:", correlation="NULL::text", sets=sets, columns=())}
    SELECT 1 FROM t"""


_REGISTER: Final = f"""WITH told AS MATERIALIZED
        (SELECT pg_current_xact_id() AS xid, {_TOLD}, 'worker:' || %(worker)s::text AS stream),
    w AS (INSERT INTO worker (id, host, pid, role, release, capabilities, state, registered_at, last_beat_at, head)
          SELECT %(worker)s::text, %(host)s::text, %(pid)s::int, %(role)s::text, %(release)s::text,
                 %(capabilities)s::text[], '{WorkerState.ONLINE}', at, at,
                 tamma_chain('', stream, 1, position, type, tags, NULL, at, data) FROM told
          WHERE NOT EXISTS (SELECT FROM anchor WHERE anchor.stream = told.stream)
          ON CONFLICT DO NOTHING RETURNING version, head),
    e AS (INSERT INTO event (xid, position, stream, version, type, tags, at, data, hash) OVERRIDING SYSTEM VALUE
          SELECT xid, position, stream, version, type, tags, at, data, head FROM told, w)
    SELECT 1 FROM w"""
_BEAT: Final = "UPDATE worker SET last_beat_at = tamma_now() WHERE id = %(worker)s AND state IN ('online', 'draining')"
_BACK: Final = _changed("state = 'offline'")
_BEFORE: Final = f"""SELECT data->>'state' FROM event WHERE stream = %(stream)s
    AND data->>'state' IN ('{WorkerState.ONLINE}', '{WorkerState.DRAINING}') ORDER BY version DESC LIMIT 1"""
_CHANGE: Final = _changed("state NOT IN (%(state)s, 'gone')")
IS_SILENT: Final = "state IN ('online', 'draining') AND last_beat_at < tamma_now() - %(patience)s::interval"
_EXPIRE: Final = _changed(IS_SILENT)
_LIST: Final = f"""SELECT {WORKER_COLUMNS} FROM worker WHERE state = ANY(%(states)s::text[])
    ORDER BY registered_at DESC, id LIMIT %(limit)s"""


class PostgresWorkers:
    """``ports.store.Workers``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def register(
        self, worker: WorkerId, *, host: str, pid: int, role: WorkerRole, release: str, capabilities: Collection[str]
    ) -> None:
        """Idempotent: a worker that is known already only gives a sign of life."""
        abilities = tuple(sorted(set(capabilities)))
        fact = WorkerRegistered(
            worker=worker, host=host, pid=pid, role=role, release=release, capabilities=abilities
        )  # fmt: skip
        row = self._pool.one(
            _REGISTER,
            {
                "worker": rows.text(worker),
                "host": rows.text(host),
                "pid": pid,
                "role": role.value,
                "release": rows.text(release),
                "capabilities": [rows.text(ability) for ability in abilities],
                "type": fact.TYPE,
                "data": rows.data_of(fact),
            },
        )
        if row is None:
            self.beat(worker)

    def beat(self, worker: WorkerId) -> None:
        """A sign of life; an offline worker is again what it was before. Nothing for one that is gone or was never here."""
        me = {"worker": rows.text(worker)}
        is_away = self._pool.run(_BEAT, me) == 0
        if is_away and self._change(_BACK, worker, self._state_before(worker), "it gave a sign of life"):
            self._pool.run(_BEAT, me)

    def change_state(self, worker: WorkerId, state: WorkerState, *, reason: str) -> None:
        """A no-op if it is in that state already, or gone."""
        self._change(_CHANGE, worker, state, reason)

    def expire(self, worker: WorkerId, *, beat: timedelta, missed_beats_max: int) -> bool:
        """Offline, if it has missed that many beats by the database's clock."""
        reason = f"it missed {missed_beats_max} beats"
        return self._change(_EXPIRE, worker, WorkerState.OFFLINE, reason, patience=beat * missed_beats_max)

    def list(self, *, states: Collection[WorkerState] = (), limit: int = 200) -> Sequence[WorkerRecord]:
        """Newest first; no states means all."""
        wanted = {"states": [state.value for state in states or WorkerState], "limit": limit}
        return [rows.worker_of(row) for row in self._pool.all(_LIST, wanted)]

    def _state_before(self, worker: WorkerId) -> WorkerState:
        """Before it went offline: who was to give its tasks back is to do so still."""
        row = self._pool.one(_BEFORE, {"stream": worker_stream(worker)})
        return WorkerState.ONLINE if row is None else WorkerState(row[0])

    def _change(
        self, statement: str, worker: WorkerId, state: WorkerState, reason: str, *, patience: timedelta = timedelta()
    ) -> bool:
        fact = WorkerStateChanged(worker=worker, state=state, reason=reason)
        values = {
            "worker": rows.text(worker),
            "state": state.value,
            "patience": patience,
            "type": fact.TYPE,
            "data": rows.data_of(fact),
        }
        return self._pool.repeat(lambda: self._pool.write(statement, values)) is not None
