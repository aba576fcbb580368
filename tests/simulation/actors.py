"""Who acts in the simulation: workers and orchestrators that may be stopped, forgotten or overtaken between any two steps.

Each is a generator: what stands between two ``yield`` happens at once. A crash is a generator that is never asked again.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tamma.core.attempt import Outcome, Phase, judge
from tamma.core.effect import Effect, EffectKind, EffectState, effect_key
from tamma.core.errors import LeaseLost, NotClaimable, TaskCancelled
from tamma.core.event import ChangeDelivered
from tamma.core.ids import BlobId, IssueRef, Oid, TaskId, WorkerId
from tamma.core.lease import Lease
from tamma.core.policy import RetryPolicy
from tamma.core.task import CLAIMABLE, Notice, Task, TaskKind, TaskState
from tamma.ports.store import Claim, TaskDraft
from tests.simulation.model import BEGIN, Rules

RETRY = RetryPolicy(
    crashes_max=100, infra_max=100, interruptions_max=100, attempts_max=100,
    backoff_base=timedelta(seconds=1), backoff_max=timedelta(seconds=20),
)  # fmt: skip
LEASE = timedelta(seconds=60)
RESERVATION = timedelta(seconds=30)
RUNNING_MAX = 2
PHASES = (Phase.PREPARE, Phase.BASELINE, Phase.IMPLEMENT, Phase.AUDIT, Phase.GATES)


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(slots=True, kw_only=True)
class Forge:
    """The world outside: what is here was seen by others."""

    rules: Rules
    labelled: dict[str, bool] = field(default_factory=dict)
    branch: dict[str, str] = field(default_factory=dict)
    changes: dict[str, list[tuple[TaskId, str]]] = field(default_factory=lambda: defaultdict(list))
    comments: Counter[str] = field(default_factory=Counter)

    def push(self, number: str, commit: str, *, expected: str | None) -> bool:
        """Compare and swap."""
        if self.rules.compare_and_swap and self.branch.get(number) not in {expected, commit}:
            return False
        self.branch[number] = commit
        return True

    def open_change(self, number: str, task: TaskId, commit: str) -> str:
        """The one that is there, or a new one."""
        found = [n for n, (owner, _) in enumerate(self.changes[number]) if owner == task]
        if found and self.rules.marker:
            return str(found[0])
        self.changes[number].append((task, commit))
        return str(len(self.changes[number]) - 1)

    def comment(self, marker: str) -> None:
        """Once for each marker."""
        if not self.comments[marker] or not self.rules.marker:
            self.comments[marker] += 1


@dataclass(slots=True, kw_only=True)
class World:
    """Everything there is; ``store`` is the model or the real one."""

    store: Any
    forge: Forge
    chance: random.Random
    owner: dict[TaskId, float] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    dispatched: dict[TaskId, datetime] = field(default_factory=dict)
    now: datetime = BEGIN
    refs: dict[str, IssueRef] = field(default_factory=dict)
    tasks: list[TaskId] = field(default_factory=list)

    def write(self, lease: Lease) -> None:
        """The database took a write: only the newest attempt's may be taken."""
        if self.owner.get(lease.task_id) != lease.epoch:
            raise Violation(
                f"attempt {lease.epoch} of {lease.task_id} wrote; {self.owner.get(lease.task_id)} has the task"
            )

    def dispatch(self, task: TaskId) -> None:
        """A slot was given: not while another is held for it, and never more than there are."""
        waiting = {one for one in self.tasks if self.store.tasks.get(one).state in CLAIMABLE}
        held = {one for one, until in self.dispatched.items() if until > self.now} & waiting
        running = {one for one in self.tasks if self.store.tasks.get(one).state is TaskState.RUNNING}
        if task in held or len(held | running) >= RUNNING_MAX:
            raise Violation(f"{task} was dispatched; held are {held}, running {running}")
        self.dispatched[task] = self.now + RESERVATION

    def intended(self, effect: Effect) -> bool:
        """Whether it is still to be done: what is done must stay done."""
        if effect.key in self.done and effect.state is not EffectState.DONE:
            raise Violation(f"{effect.key} was begun again after it was done")
        return effect.state is not EffectState.DONE


def worker(world: World, me: WorkerId, task: TaskId) -> Iterator[str]:
    """One attempt, as the pipeline does it, up to telling the issue."""
    store = world.store
    try:
        claim = store.claims.claim(task, worker=me, duration=LEASE)
    except NotClaimable:
        return
    lease = claim.lease
    world.dispatched.pop(task, None)
    if lease.epoch <= world.owner.get(task, 0):
        raise Violation(f"epoch {lease.epoch} of {task} was given twice")
    world.owner[task] = lease.epoch
    yield "claimed"
    try:
        yield from _attempt(world, claim.task, lease)
    except (LeaseLost, TaskCancelled):
        return
    yield from tell(world, me, task)


def _attempt(world: World, task: Task, lease: Lease) -> Iterator[str]:
    store, forge, number = world.store, world.forge, task.ref.number
    adopted = [n for n, (owner, _) in enumerate(forge.changes[number]) if owner == task.id]
    if adopted and world.forge.rules.marker:
        _deliver(world, lease, number, str(adopted[0]))
        return
    for phase in PHASES:
        store.claims.enter(lease, phase)
        world.write(lease)
        yield phase
    if world.chance.random() < 0.2:
        outcome = world.chance.choice((Outcome.AGENT_FAILED, Outcome.UNAVAILABLE, Outcome.INTERRUPTED, Outcome.BLOCKED))
        _settle(world, lease, outcome)
        return
    commit, expected = f"{task.id}-{lease.epoch}", forge.branch.get(number)
    yield "seen"
    key = effect_key(task.id, EffectKind.PUSH, commit)
    world.intended(store.effects.intend(lease, key=key, kind=EffectKind.PUSH, intent={"commit": commit}))
    world.write(lease)
    yield "push intended"
    store.claims.renew(lease, duration=LEASE).check()
    yield "push begun"
    if not forge.push(number, commit, expected=expected):
        return
    yield "pushed"
    store.effects.record(lease, key=key, result={"commit": commit})
    world.done.add(key)
    world.write(lease)
    yield "push recorded"
    key = effect_key(task.id, EffectKind.CHANGE, commit)
    world.intended(store.effects.intend(lease, key=key, kind=EffectKind.CHANGE, intent={"commit": commit}))
    yield "change intended"
    store.claims.renew(lease, duration=LEASE).check()
    yield "change begun"
    change = forge.open_change(number, task.id, commit)
    yield "change opened"
    store.effects.record(lease, key=key, result={"change": change})
    world.done.add(key)
    world.write(lease)
    yield "change recorded"
    _deliver(world, lease, number, change)


def _deliver(world: World, lease: Lease, number: str, change: str) -> None:
    commit = Oid(world.forge.branch[number])
    fact = ChangeDelivered(epoch=lease.epoch, change=change, url="u", branch=f"tamma/{number}", commit=commit)
    world.store.claims.record(lease, fact)
    world.write(lease)
    _settle(world, lease, Outcome.DELIVERED)


def _settle(world: World, lease: Lease, outcome: Outcome) -> None:
    task = world.store.tasks.get(lease.task_id)
    decision = judge(outcome, task.counters, RETRY, chance=0.5)
    world.store.claims.settle(Claim(task=task, lease=lease), decision, reason=str(outcome))
    world.write(lease)


def tell(world: World, me: WorkerId, wanted: TaskId) -> Iterator[str]:
    """The comment that says what became of a task; whoever comes first."""
    task = world.store.tasks.get(wanted)
    if task.notice is None:
        return
    marker = f"{task.notice}-{task.id}" + ("" if task.is_terminal else f"-{task.epoch}")
    key = effect_key(task.id, EffectKind.COMMENT, f"{task.notice}-{task.epoch}")
    yield "to be told"
    effects = world.store.effects
    held = effects.intend_unleased(
        task.id, key=key, kind=EffectKind.COMMENT, intent={"marker": marker}, by=me, hold=LEASE
    )
    if held is None:
        return
    if world.intended(held):
        yield "telling"
        if not effects.holds(key, by=me):
            return
        if key in world.done:
            raise Violation(f"{marker} was told by another, and a sleeper tells it again")
        world.forge.comment(marker)
        yield "told"
        try:
            effects.record_unleased(task.id, key=key, result={}, by=me)
        except LeaseLost:
            return
        world.done.add(key)
    yield "told and recorded"
    world.store.tasks.settle_notice(task.id, Notice(task.notice), epoch=task.epoch, by=me)


def orchestrator(world: World, me: WorkerId, start: list[TaskId]) -> Iterator[str]:
    """One tick on what was seen a while ago: every action may come too late. Adds to ``start`` whom to start."""
    store = world.store
    newest = store.tasks.newest(list(world.refs.values()), TaskKind.RESOLVE)
    labelled = dict(world.forge.labelled)
    yield "observed"
    for number, ref in sorted(world.refs.items()):
        task = newest.get(ref)
        if task is None or task.is_terminal:
            if labelled[number] and (task is None or task.state is TaskState.CANCELLED):
                create(world, ref, task.generation + 1 if task else 1)
                yield "created"
        elif not labelled[number]:
            store.tasks.cancel(task.id, by=me, reason="called off")
            yield "called off"
        elif task.state is TaskState.RUNNING:
            decision = judge(Outcome.CRASHED, task.counters, RETRY, chance=0.5)
            if store.claims.reap(task.id, epoch=task.epoch, decision=decision, by=me, reason="r") is not None:
                world.owner[task.id] = task.epoch + 0.5  # from here on nobody's
            yield "reaped"
        elif task.state is not TaskState.BLOCKED and store.tasks.reserve(
            task.id, by=me, duration=RESERVATION, running_max=RUNNING_MAX, running_per_repository_max=RUNNING_MAX
        ):
            world.dispatch(task.id)
            start.append(task.id)
            yield "dispatched"
    for wanted in list(world.tasks):
        yield from tell(world, me, wanted)


def create(world: World, ref: IssueRef, generation: int) -> None:
    """A task of that generation, unless the store knows better."""
    draft = TaskDraft(ref=ref, title="t", digest="d", snapshot=BlobId("s"), asked_by="label", generation=generation)
    try:
        made = world.store.tasks.create(draft)
    except NotClaimable:
        return
    if made.id not in world.tasks:
        world.tasks.append(made.id)
