"""Claims and what an attempt writes under its lease: each one guarded statement with its event (DESIGN section 5)."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import (
    BY_TAG,
    HELD,
    IS_ABLE,
    IS_CLAIMABLE,
    IS_DUE,
    IS_RUNNING,
    IS_UNRESERVED,
    LEASE,
    LEASE_OFF,
    RESERVATION_OFF,
    SKIP_LOCKED,
    TASK_COLUMNS,
    WORKER_TAG,
    change,
    iso,
    locked,
)
from tamma.core.attempt import Decision, Outcome, Phase
from tamma.core.errors import LeaseLost, NoSuchTask, NotClaimable, TammaError, TaskCancelled, WaitsForHuman
from tamma.core.event import (
    AgentSpoke,
    AttemptFact,
    ChangeDelivered,
    PhaseEntered,
    TaskReaped,
    WorkSalvaged,
)
from tamma.core.fold import settled
from tamma.core.ids import TaskId, WorkerId
from tamma.core.lease import Lease, Renewal, called_off
from tamma.core.task import TERMINAL, Task, TaskState, Trigger, next_state
from tamma.core.worker import WorkerState
from tamma.ports.store import Claim

_CLAIMED: Final = next_state(TaskState.QUEUED, Trigger.CLAIM)
_CLAIM: Final[dict[str, str]] = {
    "sets": f"state = '{_CLAIMED}', epoch = task.epoch + 1, worker = %(worker)s, run_after = NULL, {RESERVATION_OFF}, "
    "lease_expires_at = told.at + %(duration)s",
    "type_": "'TASK.CLAIM.SUCCEEDED'",
    "data": "jsonb_build_object('worker', %(worker)s::text, 'epoch', epoch + 1)",
    "tags": WORKER_TAG,
    "returns": f"{TASK_COLUMNS}, lease_expires_at",
}
_CLAIM_ONE: Final = change(held=locked(f"id = %(task_id)s AND {IS_CLAIMABLE}"), **_CLAIM)

# The moment is read once for the scan; a volatile call would be made for every row of the queue.
_NOW: Final = "(SELECT now FROM start)"
CLAIM_NEXT: Final = change(
    before="start AS MATERIALIZED (SELECT tamma_now() AS now),",
    held=locked(
        f"{IS_CLAIMABLE} AND {IS_DUE.format(now=_NOW)} AND {IS_UNRESERVED.format(now=_NOW)} AND {IS_ABLE} "
        "ORDER BY priority DESC, created_at, id LIMIT 1",
        how=SKIP_LOCKED,
    ),
    **_CLAIM,
)

# Whether a claim whose reply was lost went through: a worker has one attempt at a time.
_OURS: Final = (
    f"SELECT {TASK_COLUMNS}, lease_expires_at FROM task WHERE {IS_RUNNING} AND worker = %(worker)s "
    "AND lease_expires_at > tamma_now()"
)
_OURS_ONE: Final = f"{_OURS} AND id = %(task_id)s"
_OURS_NEXT: Final = f"{_OURS} ORDER BY lease_expires_at DESC LIMIT 1"

_RENEW: Final = f"""WITH renewed AS (UPDATE task SET lease_expires_at = greatest(lease_expires_at, tamma_now() + %(duration)s)
        WHERE {LEASE} RETURNING lease_expires_at)
    SELECT (SELECT lease_expires_at FROM renewed),
        EXISTS (SELECT FROM worker WHERE id = %(worker)s AND state = '{WorkerState.DRAINING}')"""
_ENTER: Final = change(
    held=HELD,
    sets="phase = %(phase)s",
    type_="'ATTEMPT.PHASE.ENTERED'",
    tags=WORKER_TAG,
    returns="id",
)
_RECORD: Final = change(held=HELD, sets="", type_="%(type)s::text", tags=WORKER_TAG, returns="id")
_SALVAGEABLE: Final = locked("id = %(task_id)s AND epoch = %(epoch)s")
_SALVAGE: Final = change(
    held=_SALVAGEABLE,
    sets="",
    type_="%(type)s::text",
    tags=WORKER_TAG,
    returns="id",
)
_CHANGE_TAG: Final = "ARRAY['change:' || forge || '/' || repository || '!' || %(change)s::text]"
_RECORD_CHANGE: Final = change(
    held=HELD,
    sets="change = %(change)s",
    type_="%(type)s::text",
    tags=f"{WORKER_TAG} || {_CHANGE_TAG}",
    returns="id",
)

# Whether a fact whose reply was lost is in the log: an attempt writes one after the other, so it is the newest.
_IS_NEWEST: Final = (
    "SELECT 1 FROM task JOIN event ON stream = 'task:' || id AND event.version = task.version "
    "WHERE id = %(task_id)s AND type = %(type)s AND data = %(data)s::jsonb"
)

_COUNTED: Final = "attempts = %(attempts)s, infra = %(infra)s, interruptions = %(interruptions)s, crashes = %(crashes)s"
_END: Final = (
    f"state = %(state)s, {LEASE_OFF}, outcome = %(outcome)s, reason = %(reason)s, notice = %(notice)s, {_COUNTED}, "
    "run_after = told.at + %(delay)s::interval, finished_at = CASE WHEN %(is_terminal)s THEN told.at END"
)
_END_DATA: Final = f"%(data)s::jsonb || jsonb_build_object('run_after', {iso('(at + %(delay)s::interval)')})"
# What neither its claim told of a task's row nor the decision says.
_SETTLED: Final = "version, change, run_after, at"
_SETTLE: Final = change(
    held=HELD,
    sets=_END,
    type_="'TASK.SETTLE.SUCCEEDED'",
    data=_END_DATA,
    tags=WORKER_TAG,
    returns=_SETTLED,
)
_REAP: Final = change(
    held=locked(
        f"id = %(task_id)s AND {IS_RUNNING} AND epoch = %(epoch)s "
        "AND (lease_expires_at <= tamma_now() OR worker = %(dead)s)"
    ),
    sets=_END,
    type_="'TASK.REAP.SUCCEEDED'",
    data=f"{_END_DATA} || jsonb_build_object('worker', worker)",
    tags=f"{BY_TAG} || ARRAY['worker:' || worker]",
)
# An epoch ends once, so its end in the log is the one whose reply was lost.
_IS_ENDED: Final = (
    f"SELECT {TASK_COLUMNS} FROM task WHERE id = %(task_id)s AND EXISTS (SELECT 1 FROM event "
    "WHERE stream = 'task:' || %(task_id)s AND type = {type} AND (data->>'epoch')::int = %(epoch)s AND {by})"
)
_IS_SETTLED: Final = _IS_ENDED.format(type="'TASK.SETTLE.SUCCEEDED'", by="true")
_IS_REAPED: Final = _IS_ENDED.format(type="'TASK.REAP.SUCCEEDED'", by="data->>'by' = %(by)s")
_STANDING: Final = "SELECT state, epoch, worker FROM task WHERE id = %(task_id)s"


class PostgresClaims:
    """``ports.store.Claims``. A write whose reply was lost is never repeated blindly: its guard or a reread decides."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def claim(self, task_id: TaskId, *, worker: WorkerId, duration: timedelta) -> Claim:
        """By id: ignores due time, rank, limits and reservations."""
        wanted = {"task_id": rows.text(task_id), "worker": rows.text(worker), "duration": duration}

        def claim() -> rows.Row | None:
            return self._pool.once(_CLAIM_ONE, wanted)

        row = self._pool.repeat(claim, then=lambda: claim() or self._pool.once(_OURS_ONE, wanted))
        if row is None:
            raise self._not_claimable(task_id)
        return _claim_of(row, worker)

    def claim_next(self, *, worker: WorkerId, capabilities: Collection[str], duration: timedelta) -> Claim | None:
        """The best task that we can take now; None if there is none. For workers that ask for work; the loop claims by id."""
        ours = [rows.text(capability) for capability in capabilities]
        wanted = {"worker": rows.text(worker), "capabilities": ours, "duration": duration}

        def claim() -> rows.Row | None:
            return self._pool.once(CLAIM_NEXT, wanted)

        # Here the reread comes first: the same again would take another task.
        row = self._pool.repeat(claim, then=lambda: self._pool.once(_OURS_NEXT, wanted) or claim())
        return None if row is None else _claim_of(row, worker)

    def renew(self, lease: Lease, *, duration: timedelta) -> Renewal:
        """More time, never less; and what the worker is asked for, by the same statement."""
        row = self._pool.one(_RENEW, {**held(lease), "duration": duration})
        assert row is not None
        expires_at, is_draining = row
        if expires_at is not None:
            return Renewal(lease=replace(lease, expires_at=rows.utc(expires_at)), drain=is_draining)
        # Asked only now, in a snapshot of its own: a renewal that waited for whoever cancels would still see the task run.
        if isinstance(error := lost(self._pool, lease), TaskCancelled):
            return Renewal(lease=lease, cancel=True, drain=is_draining)
        raise error

    def enter(self, lease: Lease, phase: Phase) -> None:
        """The attempt goes on to its next phase."""
        fact = PhaseEntered(epoch=lease.epoch, phase=phase)
        self._write(lease, _ENTER, {"type": fact.TYPE, "phase": phase.value, "data": rows.data_of(fact)})

    def record(self, lease: Lease, fact: AttemptFact) -> None:
        """A fact of this attempt. Its epoch is the lease's, or the caller mixed up two attempts."""
        assert fact.epoch == lease.epoch, (fact.epoch, lease.epoch)
        told: dict[str, Any] = {"type": fact.TYPE, "data": rows.data_of(fact)}
        if isinstance(fact, ChangeDelivered):
            self._write(lease, _RECORD_CHANGE, {**told, "change": rows.text(fact.change)})
        elif isinstance(fact, AgentSpoke):  # its caller reads what the agent says, and must not be held
            self._write(lease, _RECORD, told, patience=timedelta())
        else:
            self._write(lease, _RECORD, told)

    def salvage(self, lease: Lease, fact: WorkSalvaged) -> bool:
        """Undelivered work is kept, even after the lease, until a later attempt begins."""
        assert fact.epoch == lease.epoch, (fact.epoch, lease.epoch)
        values = {**held(lease), "type": fact.TYPE, "data": rows.data_of(fact)}
        row = self._pool.repeat(
            lambda: self._pool.once(_SALVAGE, values), then=lambda: self._unless_told(_SALVAGEABLE, _SALVAGE, values)
        )
        return row is not None

    def settle(self, claim: Claim, decision: Decision, *, reason: str) -> Task:
        """The attempt's end; the task as it leaves it."""
        assert decision.to is next_state(TaskState.RUNNING, decision.trigger), decision
        lease, reason = claim.lease, rows.text(reason)
        fact = decision.told(epoch=lease.epoch, reason=reason)

        def task_of(row: rows.Row) -> Task:
            version, change_id, run_after, at = row
            told = fact if run_after is None else replace(fact, run_after=rows.utc(run_after))
            return replace(settled(claim.task, told, at=rows.utc(at)), version=version, change=change_id)

        values = {**held(lease), **_ended(decision, reason), "data": rows.data_of(fact)}
        task = self._end(_SETTLE, values, read=task_of, reread=_IS_SETTLED)
        if task is None:
            raise lost(self._pool, lease)
        return task

    def reap(
        self,
        task_id: TaskId,
        *,
        epoch: int,
        decision: Decision,
        by: WorkerId,
        reason: str,
        dead: WorkerId | None = None,
    ) -> Task | None:
        """End an attempt that its worker did not settle; None if it is not (or no longer) ours to end."""
        assert decision.to is next_state(TaskState.RUNNING, decision.trigger), decision
        # The event carries no other counters, and the fold must come to the same row.
        assert decision.outcome in {Outcome.CRASHED, Outcome.UNAVAILABLE}, decision
        fact = TaskReaped(
            epoch=epoch,
            worker=WorkerId(""),
            by=by,
            outcome=decision.outcome,
            trigger=decision.trigger,
            state=decision.to,
            reason=reason,
            infra=decision.counters.infra,
            crashes=decision.counters.crashes,
            notice=decision.notice,
            run_after=None,
        )
        asked = {
            "task_id": rows.text(task_id),
            "epoch": epoch,
            "by": rows.text(by),
            "dead": rows.text_or_none(dead),
            "data": rows.data_of(fact),
        }
        return self._end(_REAP, {**_ended(decision, reason), **asked}, read=rows.task_of, reread=_IS_REAPED)

    def _write(
        self, lease: Lease, statement: str, values: dict[str, Any], *, patience: timedelta | None = None
    ) -> None:
        values = {**held(lease), **values}
        row = self._pool.repeat(
            lambda: self._pool.once(statement, values),
            then=lambda: self._unless_told(HELD, statement, values),
            patience=patience,
        )
        if row is None:
            raise lost(self._pool, lease)

    def _unless_told(self, lock: str, statement: str, values: dict[str, Any]) -> rows.Row | None:
        """The write, unless the log has it; looked up behind the lock, so that a first try still under way is seen."""
        with self._pool.transaction() as connection:
            if connection.execute(lock, values).fetchone() is None:
                return None
            told = connection.execute(_IS_NEWEST, values).fetchone()
            return told or connection.execute(statement, values).fetchone()

    def _end(
        self, statement: str, values: dict[str, Any], *, read: Callable[[rows.Row], Task], reread: str
    ) -> Task | None:
        """The task as the write leaves it; or as it is now, where an earlier try turns out to have been done."""

        def end() -> Task | None:
            row = self._pool.write(statement, values)
            return None if row is None else read(row)

        def look() -> Task | None:
            row = self._pool.once(reread, values)
            return None if row is None else rows.task_of(row)

        return self._pool.repeat(end, then=lambda: end() or look())

    def _not_claimable(self, task_id: TaskId) -> TammaError:
        row = self._pool.one(_STANDING, {"task_id": rows.text(task_id)})
        if row is None:
            return no_such_task(task_id)
        state, _, worker = row
        if state == TaskState.RUNNING:
            return NotClaimable(f"task {task_id} is running", why=f"worker {worker} has it", fix="wait for it to end")
        if state == TaskState.BLOCKED:
            return WaitsForHuman(
                f"task {task_id} waits for a human", why=f"it is {state}", fix=f"run: tamma explain {task_id}"
            )
        why = "somebody claimed it first" if state in (TaskState.QUEUED, TaskState.RETRYABLE) else f"it is {state}"
        return NotClaimable(f"task {task_id} cannot be claimed", why=why, fix=f"run: tamma explain {task_id}")


def no_such_task(task_id: TaskId) -> NoSuchTask:
    """The error for an id that no task has."""
    return NoSuchTask(f"no task {task_id}", why="the database does not know this id", fix="run: tamma status")


def lost(pool: Pool, lease: Lease) -> LeaseLost | TaskCancelled:
    """Why a guarded write found nothing: one reread, for the message and for the kind of error."""
    row = pool.one(_STANDING, {"task_id": rows.text(lease.task_id)})
    what = f"the lease on task {lease.task_id} (epoch {lease.epoch}) is lost"
    if row is None:
        return LeaseLost(what, why="the task is not in this database")
    state, epoch, worker = row
    if state == TaskState.CANCELLED and epoch == lease.epoch:
        return called_off(lease.task_id)
    if epoch != lease.epoch:
        return LeaseLost(what, why=f"epoch {epoch} has begun" + (f" on {worker}" if worker else ""))
    if state != TaskState.RUNNING:
        return LeaseLost(what, why=f"the attempt was ended; the task is {state}")
    return LeaseLost(what, why="it ran out before it was renewed" if worker == lease.worker else f"{worker} holds it")


def held(lease: Lease) -> dict[str, Any]:
    """The parameters of the guard."""
    return {"task_id": rows.text(lease.task_id), "epoch": lease.epoch, "worker": rows.text(lease.worker)}


def _claim_of(row: rows.Row, worker: WorkerId) -> Claim:
    task = rows.task_of(row[:-1])
    lease = Lease(task_id=task.id, epoch=task.epoch, worker=worker, expires_at=rows.utc(row[-1]))
    return Claim(task=task, lease=lease)


def _ended(decision: Decision, reason: str) -> dict[str, Any]:
    counters = decision.counters
    return {
        "state": decision.to.value,
        "outcome": decision.outcome.value,
        "reason": rows.text(reason),
        "notice": None if decision.notice is None else decision.notice.value,
        "attempts": counters.attempts,
        "infra": counters.infra,
        "interruptions": counters.interruptions,
        "crashes": counters.crashes,
        "delay": decision.delay if decision.to is TaskState.RETRYABLE else None,
        "is_terminal": decision.to in TERMINAL,
    }
