"""A store that also logs the facts of the attempts written through it: the engine emits events, it does not log.

A line is written after its fact, from the same values, and costs the database nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tamma.core.attempt import Decision, Phase
from tamma.core.effect import Effect, EffectKind, EffectState
from tamma.core.event import (
    AttemptFact,
    EffectIntended,
    EffectRecorded,
    Fact,
    PhaseEntered,
    TaskClaimed,
    WorkSalvaged,
    task_stream,
)
from tamma.core.ids import CorrelationId, TaskId, WorkerId
from tamma.core.lease import Lease, Renewal
from tamma.core.task import Task
from tamma.logs.setup import log_fact
from tamma.ports.store import BaselineCache, Blobs, Claim, Claims, Effects, Events, Pauses, Store, Tasks, Workers


@dataclass(frozen=True, slots=True)
class _Speaker:
    """Who claimed which task, so that each line names its worker and its issue's correlation."""

    worker: dict[TaskId, WorkerId] = field(default_factory=dict)
    correlation: dict[TaskId, CorrelationId] = field(default_factory=dict)

    def say(self, task_id: TaskId, fact: Fact) -> None:
        log_fact(
            fact,
            stream=task_stream(task_id),
            correlation=self.correlation.get(task_id),
            worker=self.worker.get(task_id),
        )

    def claimed(self, claim: Claim) -> Claim:
        task, worker = claim.task, claim.lease.worker
        self.worker[task.id], self.correlation[task.id] = worker, task.correlation
        self.say(task.id, TaskClaimed(worker=worker, epoch=task.epoch))
        return claim


class LoggedStore:
    """``ports.store.Store`` over another one."""

    def __init__(self, store: Store) -> None:
        speaker = _Speaker()
        self._store = store
        self._claims = LoggedClaims(store.claims, speaker)
        self._effects = LoggedEffects(store.effects, speaker)

    @property
    def tasks(self) -> Tasks:
        """As it is."""
        return self._store.tasks

    @property
    def claims(self) -> Claims:
        """With a line for each fact."""
        return self._claims

    @property
    def effects(self) -> Effects:
        """With a line for each intent and record."""
        return self._effects

    @property
    def events(self) -> Events:
        """As it is."""
        return self._store.events

    @property
    def pauses(self) -> Pauses:
        """As it is."""
        return self._store.pauses

    @property
    def workers(self) -> Workers:
        """As it is."""
        return self._store.workers

    @property
    def blobs(self) -> Blobs:
        """As it is."""
        return self._store.blobs

    @property
    def baselines(self) -> BaselineCache:
        """As it is."""
        return self._store.baselines

    def ping(self) -> datetime:
        """As it is."""
        return self._store.ping()

    def wait_for_news(self, timeout: timedelta) -> bool:
        """As it is."""
        return self._store.wait_for_news(timeout)

    def close(self) -> None:
        """As it is."""
        self._store.close()


class LoggedClaims:
    """``ports.store.Claims`` over another one."""

    def __init__(self, claims: Claims, speaker: _Speaker) -> None:
        self._claims = claims
        self._speaker = speaker

    def claim(self, task_id: TaskId, *, worker: WorkerId, duration: timedelta) -> Claim:
        """Logged."""
        return self._speaker.claimed(self._claims.claim(task_id, worker=worker, duration=duration))

    def claim_next(self, *, worker: WorkerId, capabilities: Collection[str], duration: timedelta) -> Claim | None:
        """Logged."""
        claim = self._claims.claim_next(worker=worker, capabilities=capabilities, duration=duration)
        return self._speaker.claimed(claim) if claim else None

    def renew(self, lease: Lease, *, duration: timedelta) -> Renewal:
        """No fact, no line."""
        return self._claims.renew(lease, duration=duration)

    def enter(self, lease: Lease, phase: Phase) -> None:
        """Logged."""
        self._claims.enter(lease, phase)
        self._speaker.say(lease.task_id, PhaseEntered(epoch=lease.epoch, phase=phase))

    def record(self, lease: Lease, fact: AttemptFact) -> None:
        """Logged."""
        self._claims.record(lease, fact)
        self._speaker.say(lease.task_id, fact)

    def salvage(self, lease: Lease, fact: WorkSalvaged) -> bool:
        """Logged, if it was written."""
        is_written = self._claims.salvage(lease, fact)
        if is_written:
            self._speaker.say(lease.task_id, fact)
        return is_written

    def settle(self, claim: Claim, decision: Decision, *, reason: str) -> Task:
        """Logged."""
        task = self._claims.settle(claim, decision, reason=reason)
        fact = decision.told(epoch=claim.lease.epoch, reason=task.reason, run_after=task.run_after)
        self._speaker.say(claim.lease.task_id, fact)
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
        """As it is: an orchestrator's doing, who shows the log itself."""
        return self._claims.reap(task_id, epoch=epoch, decision=decision, by=by, reason=reason, dead=dead)


class LoggedEffects:
    """``ports.store.Effects`` over another one."""

    def __init__(self, effects: Effects, speaker: _Speaker) -> None:
        self._effects = effects
        self._speaker = speaker

    def intend(self, lease: Lease, *, key: str, kind: EffectKind, intent: Mapping[str, str]) -> Effect:
        """Logged, unless it was done before."""
        effect = self._effects.intend(lease, key=key, kind=kind, intent=intent)
        self._intended(effect)
        return effect

    def record(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """Logged."""
        effect = self._effects.record(lease, key=key, result=result)
        self._recorded(effect)
        return effect

    def abandon(self, lease: Lease, *, key: str, result: Mapping[str, str]) -> Effect:
        """Logged."""
        effect = self._effects.abandon(lease, key=key, result=result)
        self._recorded(effect)
        return effect

    def intend_unleased(
        self, task_id: TaskId, *, key: str, kind: EffectKind, intent: Mapping[str, str], by: WorkerId, hold: timedelta
    ) -> Effect | None:
        """Logged, if it is ours now and was not done before."""
        effect = self._effects.intend_unleased(task_id, key=key, kind=kind, intent=intent, by=by, hold=hold)
        if effect is not None:
            self._intended(effect)
        return effect

    def holds(self, key: str, *, by: WorkerId) -> bool:
        """As it is."""
        return self._effects.holds(key, by=by)

    def record_unleased(self, task_id: TaskId, *, key: str, result: Mapping[str, str], by: WorkerId) -> Effect:
        """Logged."""
        effect = self._effects.record_unleased(task_id, key=key, result=result, by=by)
        self._recorded(effect)
        return effect

    def of_task(self, task_id: TaskId) -> Sequence[Effect]:
        """As it is."""
        return self._effects.of_task(task_id)

    def _intended(self, effect: Effect) -> None:
        if effect.state is not EffectState.DONE:
            self._speaker.say(
                effect.task_id,
                EffectIntended(key=effect.key, kind=effect.kind, epoch=effect.epoch, intent=effect.intent),
            )

    def _recorded(self, effect: Effect) -> None:
        self._speaker.say(
            effect.task_id, EffectRecorded(key=effect.key, state=effect.state, epoch=effect.epoch, result=effect.result)
        )
