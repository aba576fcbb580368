"""What the database must do, as plainly as it can be said: tasks in a dictionary, each rule one ``if``.

Every rule can be left out (``Rules``), to show that the simulation notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tamma.core.attempt import Decision, Outcome, Phase
from tamma.core.effect import Effect, EffectKind, EffectState
from tamma.core.errors import LeaseLost, NotClaimable, TaskCancelled
from tamma.core.event import AttemptFact, ChangeDelivered
from tamma.core.ids import BlobId, IssueRef, Oid, TaskId, WorkerId, correlation_id, task_id
from tamma.core.lease import Lease, Renewal
from tamma.core.task import CLAIMABLE, LIVE, Notice, Task, TaskState, Trigger, advance
from tamma.ports.store import Claim, TaskDraft

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The guards of the database and of the forge; each True is one that holds."""

    epoch: bool = True
    expiry: bool = True
    one_live: bool = True
    done_once: bool = True
    reserved: bool = True
    compare_and_swap: bool = True
    marker: bool = True
    hold: bool = True


@dataclass(slots=True, kw_only=True)
class Row:
    """A task with what is volatile about it."""

    task: Task
    lease_until: datetime | None = None
    reserved_by: WorkerId | None = None
    reserved_until: datetime | None = None


class ModelStore:
    """The part of ``ports.store.Store`` that the simulation uses; ``now`` is set by the simulation."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.now = BEGIN
        self.rows: dict[TaskId, Row] = {}
        self.made: dict[str, Effect] = {}
        self.holders: dict[str, tuple[WorkerId, datetime]] = {}
        self.tasks = ModelTasks(self)
        self.claims = ModelClaims(self)
        self.effects = ModelEffects(self)


def _next(row: Row, task: Task) -> Task:
    row.task = replace(task, version=row.task.version + 1)
    return row.task


@dataclass(slots=True)
class ModelTasks:
    """``ports.store.Tasks``."""

    store: ModelStore

    def create(self, draft: TaskDraft) -> Task:
        """One live task for an issue; its generations without holes."""
        new = task_id(draft.ref, kind=draft.kind, generation=draft.generation)
        if new in self.store.rows:
            return self.store.rows[new].task
        others = [row.task for row in self.store.rows.values() if row.task.ref == draft.ref]
        if self.store.rules.one_live and any(not t.is_terminal or t.generation >= draft.generation for t in others):
            raise NotClaimable("another")
        if self.store.rules.one_live and others and max(t.generation for t in others) != draft.generation - 1:
            raise NotClaimable("later")
        task = Task(
            id=new, ref=draft.ref, kind=draft.kind, generation=draft.generation, state=TaskState.QUEUED, title=draft.title,
            digest=draft.digest, snapshot=draft.snapshot, correlation=correlation_id(draft.ref), created_at=self.store.now,
            asked_by=draft.asked_by, priority=draft.priority, capabilities=draft.capabilities,
        )  # fmt: skip
        self.store.rows[new] = Row(task=task)
        return task

    def get(self, wanted: TaskId) -> Task:
        """As it stands."""
        return self.store.rows[wanted].task

    def newest(self, refs: list[IssueRef], kind: object) -> Mapping[IssueRef, Task]:
        """The newest generation of each."""
        del kind
        found: dict[IssueRef, Task] = {}
        for row in self.store.rows.values():
            if row.task.ref in refs and row.task.generation >= getattr(found.get(row.task.ref), "generation", 0):
                found[row.task.ref] = row.task
        return found

    def reserve(
        self, wanted: TaskId, *, by: WorkerId, duration: timedelta, running_max: int, running_per_repository_max: int
    ) -> bool:
        """A slot, if there is one."""
        now, row = self.store.now, self.store.rows[wanted]
        is_due = row.task.run_after is None or row.task.run_after <= now
        is_free = row.reserved_until is None or row.reserved_until <= now or not self.store.rules.reserved
        taken = sum(
            r.task.state is TaskState.RUNNING or (r.reserved_until is not None and r.reserved_until > now)
            for r in self.store.rows.values()
        )
        has_slot = taken < min(running_max, running_per_repository_max) or not self.store.rules.reserved
        if row.task.state not in CLAIMABLE or not is_due or not is_free or not has_slot:
            return False
        row.reserved_by, row.reserved_until = by, now + duration
        _next(row, row.task)
        return True

    def unreserve(self, wanted: TaskId, *, by: WorkerId | None = None) -> bool:
        """Our own, or any that is overdue."""
        row = self.store.rows[wanted]
        if row.reserved_by is None or row.reserved_until is None:
            return False
        if row.reserved_by == by or (by is None and row.reserved_until <= self.store.now):
            row.reserved_by = row.reserved_until = None
            return True
        return False

    def cancel(self, wanted: TaskId, *, by: str, reason: str, notice: Notice | None = None) -> Task:
        """Any live one."""
        row = self.store.rows[wanted]
        if row.task.state not in LIVE:
            return row.task
        ended = advance(row.task, Trigger.CANCEL, at=self.store.now)
        row.lease_until = row.reserved_by = row.reserved_until = None
        told = replace(ended, run_after=None, outcome=Outcome.CANCELLED.value, reason=reason, notice=notice)
        return _next(row, told)

    def unblock(self, wanted: TaskId, *, by: str, approved: Oid | None = None, answer: BlobId | None = None) -> Task:
        """Only a blocked one."""
        row = self.store.rows[wanted]
        if row.task.state is not TaskState.BLOCKED:
            raise NotClaimable("not blocked")
        afresh = replace(row.task.counters, infra=0, interruptions=0)
        task = replace(
            advance(row.task, Trigger.UNBLOCK, at=self.store.now), approved=approved, notice=None, counters=afresh
        )
        return _next(row, task)

    def settle_notice(self, wanted: TaskId, notice: Notice, *, epoch: int, by: WorkerId) -> bool:
        """Once."""
        row = self.store.rows[wanted]
        if row.task.notice is not notice or row.task.epoch != epoch:
            return False
        _next(row, replace(row.task, notice=None))
        return True


@dataclass(slots=True)
class ModelClaims:
    """``ports.store.Claims``."""

    store: ModelStore

    def claim(self, wanted: TaskId, *, worker: WorkerId, duration: timedelta) -> Claim:
        """The next attempt."""
        row = self.store.rows[wanted]
        if row.task.state not in CLAIMABLE:
            raise NotClaimable("not claimable")
        task = replace(
            advance(row.task, Trigger.CLAIM, at=self.store.now, worker=worker), epoch=row.task.epoch + 1, run_after=None
        )
        row.lease_until, row.reserved_by, row.reserved_until = self.store.now + duration, None, None
        until = row.lease_until
        return Claim(
            task=_next(row, task), lease=Lease(task_id=wanted, epoch=task.epoch, worker=worker, expires_at=until)
        )

    def renew(self, lease: Lease, *, duration: timedelta) -> Renewal:
        """More time, never less."""
        try:
            row = self._held(lease)
        except TaskCancelled:
            return Renewal(lease=lease, cancel=True)
        row.lease_until = max(row.lease_until or BEGIN, self.store.now + duration)
        return Renewal(lease=replace(lease, expires_at=row.lease_until))

    def enter(self, lease: Lease, phase: Phase) -> None:
        """The next phase."""
        row = self._held(lease)
        _next(row, replace(row.task, phase=phase.value))

    def record(self, lease: Lease, fact: AttemptFact) -> None:
        """A fact; a delivered change is also the task's."""
        row = self._held(lease)
        _next(row, replace(row.task, change=fact.change) if isinstance(fact, ChangeDelivered) else row.task)

    def settle(self, claim: Claim, decision: Decision, *, reason: str) -> Task:
        """The attempt's end."""
        return self._end(self._held(claim.lease), decision, reason)

    def reap(
        self,
        wanted: TaskId,
        *,
        epoch: int,
        decision: Decision,
        by: WorkerId,
        reason: str,
        dead: WorkerId | None = None,
    ) -> Task | None:
        """Of an attempt that gave no word in time."""
        row = self.store.rows[wanted]
        is_over = row.lease_until is not None and (row.lease_until <= self.store.now or not self.store.rules.expiry)
        if row.task.state is not TaskState.RUNNING or row.task.epoch != epoch:
            return None
        return self._end(row, decision, reason) if is_over or row.task.worker == dead else None

    def _held(self, lease: Lease) -> Row:
        row = self.store.rows[lease.task_id]
        rules = self.store.rules
        is_ours = (row.task.epoch, row.task.worker) == (lease.epoch, lease.worker) or not rules.epoch
        is_live = row.lease_until is not None and (row.lease_until > self.store.now or not rules.expiry)
        if row.task.state is TaskState.RUNNING and is_ours and is_live:
            return row
        if row.task.state is TaskState.CANCELLED and row.task.epoch == lease.epoch:
            raise TaskCancelled("cancelled")
        raise LeaseLost("lost")

    def _end(self, row: Row, decision: Decision, reason: str) -> Task:
        due = decision.delay if decision.to is TaskState.RETRYABLE else None
        ended = advance(row.task, decision.trigger, at=self.store.now)
        row.lease_until = None
        return _next(
            row,
            replace(
                ended,
                counters=decision.counters,
                outcome=decision.outcome.value,
                reason=reason,
                notice=decision.notice,
                run_after=None if due is None else self.store.now + due,
            ),
        )


@dataclass(slots=True)
class ModelEffects:
    """``ports.store.Effects``."""

    store: ModelStore

    def intend(self, lease: Lease, *, key: str, kind: EffectKind, intent: Mapping[str, str]) -> Effect:
        """Under the lease; what is done stays done."""
        row = self.store.claims._held(lease)
        known = self.store.made.get(key)
        if known is not None and known.state is EffectState.DONE and self.store.rules.done_once:
            return known
        _next(row, row.task)
        made = Effect(key=key, task_id=lease.task_id, kind=kind, epoch=lease.epoch, intent=dict(intent))
        self.store.made[key] = made
        return made

    def record(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """Done."""
        return self._end(lease, key, EffectState.DONE, result)

    def abandon(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """Will not be done."""
        return self._end(lease, key, EffectState.ABANDONED, result)

    def _end(self, lease: Lease, key: str, state: EffectState, result: Mapping[str, str]) -> Effect:
        row, known = self.store.claims._held(lease), self.store.made[key]
        if known.state is EffectState.DONE:
            return known
        _next(row, row.task)
        self.store.made[key] = replace(known, state=state, epoch=lease.epoch, result=dict(result))
        return self.store.made[key]

    def intend_unleased(
        self, wanted: TaskId, *, key: str, kind: EffectKind, intent: Mapping[str, str], by: WorkerId, hold: timedelta
    ) -> Effect | None:
        """One holder at a time."""
        row, known = self.store.rows[wanted], self.store.made.get(key)
        if known is not None and known.state is EffectState.DONE and self.store.rules.done_once:
            return known
        holder, until = self.store.holders.get(key, (by, self.store.now))
        if holder != by and until > self.store.now and self.store.rules.hold:
            return None
        self.store.holders[key] = (by, self.store.now + hold)
        asked = (EffectState.INTENDED, row.task.epoch, dict(intent))
        if known is not None and (known.state, known.epoch, dict(known.intent)) == asked:
            return known
        _next(row, row.task)
        self.store.made[key] = Effect(key=key, task_id=wanted, kind=kind, epoch=row.task.epoch, intent=dict(intent))
        return self.store.made[key]

    def holds(self, key: str, *, by: WorkerId) -> bool:
        """Still ours."""
        holder, until = self.store.holders.get(key, (WorkerId(""), BEGIN))
        return (holder == by and until > self.store.now) or not self.store.rules.hold

    def record_unleased(self, wanted: TaskId, *, key: str, result: Mapping[str, str], by: WorkerId) -> Effect:
        """By the holder."""
        row, known = self.store.rows[wanted], self.store.made[key]
        if known.state is EffectState.DONE:
            return known
        if self.store.holders.get(key, (None,))[0] != by and self.store.rules.hold:
            raise LeaseLost("held elsewhere")
        self.store.holders.pop(key, None)
        _next(row, row.task)
        self.store.made[key] = replace(known, state=EffectState.DONE, epoch=row.task.epoch, result=dict(result))
        return self.store.made[key]
