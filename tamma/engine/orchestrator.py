"""The loop: observe → reconcile → perform each → wait. Several on one database are safe: every action is guarded there."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, unique
from typing import Final

from tamma.core.attempt import Outcome, judge
from tamma.core.errors import ConfigError, ExitCode, NotClaimable, PermanentError, TammaError, TransientError
from tamma.core.event import TaskClaimed, task_stream
from tamma.core.ids import TaskId, WorkerId
from tamma.core.reconcile import Action, CallOff, Create, Dispatch, MarkOffline, Reap, Tell, Unreserve, reconcile
from tamma.core.task import Task, TaskState
from tamma.core.words import counted
from tamma.engine.contained import trouble
from tamma.engine.coverage import Coverage
from tamma.engine.heartbeat import Pulse
from tamma.engine.intake import Intake
from tamma.engine.notices import Herald
from tamma.engine.observer import Observer, Sighting
from tamma.engine.plan import Identity, Interruption, Policies
from tamma.ports.dispatch import Dispatcher, Ended
from tamma.ports.store import Store, WorkerRole, WorkerState
from tamma.ports.system import Chance, Clock, Supervisor

POLL: Final = timedelta(milliseconds=500)
POLL_FIRST: Final = timedelta(milliseconds=50)
# Whoever asks to stop may ask several times at once (a supervisor and its wrapper, a key held down): that is one wish.
BURST: Final = timedelta(seconds=1)
# How long a worker may take to give its task back once it was asked to; then it is killed, and its task is reaped.
STOP_LIMIT: Final = timedelta(seconds=60)
TIDY_EVERY: Final = timedelta(minutes=10)
LONGEST_PAUSE: Final = timedelta(minutes=10)
SHORTEST_PAUSE: Final = timedelta(milliseconds=50)
# A worker that ends before its claim gives its slot back at once this often; then its reservation runs out by itself,
# so that a worker that cannot start does not spin.
EARLY_ENDS_MAX: Final = 3
# Who waits until nothing is left to do looks once more at what was away, and does not wait for it for ever.
MISSED_LOOKS_MAX: Final = 2
HELD_NAMED_MAX: Final = 10
# Something was away, or somebody stopped it: says nothing about whether workers can start.
NO_FAULT: Final = frozenset({
    ExitCode.DELIVERED, ExitCode.TEMPORARY, ExitCode.SIGINT, ExitCode.SIGTERM, -signal.SIGINT, -signal.SIGTERM,
})  # fmt: skip


@unique
class Mode(StrEnum):
    """How long the loop goes on."""

    FOREVER = "forever"
    ONCE = "once"
    UNTIL_IDLE = "until-idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOff:
    """A notice that could not be delivered: not tried again before ``until``; ``line`` was told about it."""

    of: str
    pause: timedelta
    until: float
    line: str
    is_passing: bool


@dataclass(slots=True, kw_only=True)
class Orchestrator:
    """One process's loop. ``report`` is told what went wrong with one action or one repository: never fatal. ``revive``
    brings a database of our own back that is away; None where it is not ours."""

    identity: Identity
    store: Store
    observer: Observer
    intake: Intake
    herald: Herald
    dispatcher: Dispatcher
    policies: Policies
    clock: Clock
    chance: Chance
    interruption: Interruption
    supervisor: Supervisor
    tick_interval: timedelta = timedelta(seconds=5)
    drain_limit: timedelta = timedelta(seconds=20)
    stop_limit: timedelta = STOP_LIMIT
    revive: Callable[[], object] | None = None
    report: Callable[[str], None] = print
    tidy: Callable[[], object] | None = None
    _early_ends: Counter[TaskId] = field(default_factory=Counter)
    _faults: Counter[TaskId] = field(default_factory=Counter)
    _untellable: dict[TaskId, PutOff] = field(default_factory=dict)
    _tidy_at: float = 0.0
    _signals: int = 0
    _signalled_at: float = 0.0
    _pause: timedelta = timedelta(0)
    _told_before: set[str] = field(default_factory=set)
    _told_now: set[str] = field(default_factory=set)
    _round: Coverage = field(default_factory=Coverage)
    _rest: Coverage = field(default_factory=Coverage)
    _has_round: bool = False
    _is_at_rest: bool = False
    _missed: set[str] = field(default_factory=set)
    _missed_looks: int = 0
    _held: set[str] = field(default_factory=set)

    def signal(self, exit_code: ExitCode) -> None:
        """From a signal handler: the first drains, the second aborts, the third kills. A burst counts as one."""
        now = self.clock.monotonic()
        if not self._signals or now - self._signalled_at >= BURST.total_seconds():
            self._signals += 1
            self._signalled_at = now
        self.interruption.set(exit_code)

    def run(self, mode: Mode) -> ExitCode:
        """Until the mode is fulfilled (0; or 75 if nothing is left to do but what is away or held back by a pause, or if the one
        tick had to be given up), or drained (0), or aborted (130 or 143). Raises TransientError if the database is away at the start; later it is
        waited for, by whoever stays."""
        me = self.identity
        self.store.workers.register(
            me.id,
            host=me.host,
            pid=me.pid,
            role=WorkerRole.ORCHESTRATOR,
            release=me.release,
            capabilities=me.capabilities,
        )
        try:
            self.supervisor.ready()
            with Pulse(self.store.workers, worker=me.id, beat=self.policies.leases.beat):
                exit_code = self._loop(mode)
                return self._drain() if self._signals else exit_code
        finally:
            with suppress(TammaError):
                self.store.workers.change_state(me.id, WorkerState.GONE, reason="ended")

    def _loop(self, mode: Mode) -> ExitCode:
        while not self._signals:
            self.supervisor.alive()
            has_looked = self._tick_safely()
            if mode is Mode.ONCE and (self._has_round or not has_looked):
                self._wait_for_own_workers()
                return ExitCode.DELIVERED if has_looked else ExitCode.TEMPORARY
            if mode is Mode.UNTIL_IDLE and has_looked and not self.dispatcher.running():
                self._give_up_if_no_worker_starts()
                if (exit_code := self._end_of_rest()) is not None:
                    return exit_code
            # Who will not stay looks at all pages at once; who does, at one per tick.
            if mode is Mode.FOREVER or not has_looked or self._has_round or self._is_at_rest:
                self._wait()
        return ExitCode.DELIVERED

    def _tick_safely(self) -> bool:
        """One tick; False if it had to be given up."""
        self._pause = self.tick_interval
        try:
            self.tick()
        except TransientError as error:
            self._tell_once(f"the tick was given up: {error}")
            self._revive_safely()
            return False
        self._tidy_safely()
        return True

    def _tidy_safely(self) -> None:
        """Now and then, what tasks that are over left on this machine."""
        now = self.clock.monotonic()
        if self.tidy is None or now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_EVERY.total_seconds()
        try:
            self.tidy()
        except Exception as error:  # noqa: BLE001 — rubbish that stays is no reason to stop
            self._tell_once(f"leftovers of tasks could not be removed: {trouble(error)}")

    def _revive_safely(self) -> None:
        if self.revive is not None:
            try:
                self.revive()
            except TammaError as error:
                self._tell_once(f"the database could not be started again: {error}")

    def tick(self) -> tuple[Action, ...]:
        """Observe, decide, perform; the actions that were decided."""
        self._bury()
        sighting = self.observer.observe(slots=self.dispatcher.slots)
        actions = tuple(action for action in self.decide(sighting) if not self._is_put_off(action))
        for action in actions:
            self._perform_safely(action)
            self.supervisor.alive()
        self._mention(sighting)
        due_in = sighting.view.due_in
        self._pause = self.tick_interval if due_in is None else max(SHORTEST_PAUSE, min(self.tick_interval, due_in))
        self._take_stock(sighting, actions)
        return actions

    def _take_stock(self, sighting: Sighting, actions: tuple[Action, ...]) -> None:
        """Which rounds over all pages this tick completed: of looking, and of looking while nothing moved."""
        self._has_round = self._round.has_whole(sighting.looks)
        if self._has_round:
            self._round.restart()
            self._told_before, self._told_now = self._told_now, set()
            self._forget_told()
        if actions or sighting.is_moving or self.dispatcher.running():
            self._restart_rest()
            self._missed_looks = 0
            return
        self._held.update(sighting.held)
        untellable = (self._untellable.get(task.id) for task in sighting.view.untold)
        self._missed.update(sighting.missed, (put_off.of for put_off in untellable if put_off and put_off.is_passing))
        self._is_at_rest = self._rest.has_whole(sighting.looks)

    def _restart_rest(self) -> None:
        self._rest.restart()
        self._missed.clear()
        self._held.clear()
        self._is_at_rest = False

    def decide(self, sighting: Sighting) -> tuple[Action, ...]:
        """Pure: what this sighting calls for."""
        return decide(sighting, self.policies, chance=self.chance.fraction())

    # Performing

    def _perform_safely(self, action: Action) -> None:
        """One failing issue never aborts the tick."""
        try:
            self._perform(action)
        except NotClaimable:
            pass  # another orchestrator, worker or human was first: that is what the guard is for
        except Exception as error:  # noqa: BLE001 — a bug met with one issue must not stop the loop for all others
            line = f"{type(action).__name__.lower()} failed: {trouble(error)}"
            self._put_off(action, line, is_passing=isinstance(error, TransientError))
            self._tell_once(line)
        else:
            if isinstance(action, Tell):
                self._untellable.pop(action.task.id, None)

    def _put_off(self, action: Action, line: str, *, is_passing: bool) -> None:
        """A notice that cannot be delivered is tried again later and later, not at every tick."""
        if isinstance(action, Tell):
            task, now = action.task, self.clock.monotonic()
            before = self._untellable.get(task.id)
            pause = min(before.pause * 2, LONGEST_PAUSE) if before else self.tick_interval
            until = now + pause.total_seconds()
            self._untellable[task.id] = PutOff(
                of=str(task.ref), pause=pause, until=until, line=line, is_passing=is_passing
            )

    def _forget_told(self) -> None:
        """Others may have told an issue meanwhile; who could not be told would have been tried again by now."""
        now, patience = self.clock.monotonic(), LONGEST_PAUSE.total_seconds()
        self._untellable = {id_: put_off for id_, put_off in self._untellable.items() if now < put_off.until + patience}

    def _is_put_off(self, action: Action) -> bool:
        put_off = self._untellable.get(action.task.id) if isinstance(action, Tell) else None
        if put_off is None or self.clock.monotonic() >= put_off.until:
            return False
        self._told_now.add(put_off.line)
        return True

    def _perform(self, action: Action) -> None:
        tasks, claims, me = self.store.tasks, self.store.claims, self.identity.id
        match action:
            case Reap(task=task, decision=decision):
                claims.reap(
                    task.id, epoch=task.epoch, decision=decision, by=me, reason="the lease ran out without a word"
                )
            case Unreserve(task_id=task_id):
                tasks.unreserve(task_id)
            case MarkOffline(worker=worker):
                leases = self.policies.leases
                self.store.workers.expire(worker, beat=leases.beat, missed_beats_max=leases.missed_beats_max)
            case CallOff(task=task, reason=reason):
                tasks.cancel(task.id, by=me, reason=reason)
            case Tell(task=task):
                self.herald.tell(task)
            case Create(issue=issue, generation=generation, priority=priority):
                self.intake.create(issue, generation=generation, asked_by="label", priority=priority)
            case Dispatch(task_id=task_id):
                self._dispatch(task_id)

    def _dispatch(self, task_id: TaskId) -> None:
        limits = self.policies.limits
        reserved = self.store.tasks.reserve(
            task_id,
            by=self.identity.id,
            duration=self.policies.leases.reservation,
            running_max=limits.running,
            running_per_repository_max=limits.running_per_repository,
        )
        if not reserved:
            return
        try:
            self.dispatcher.start(task_id)
        except TammaError as error:
            self._faults[task_id] += isinstance(error, PermanentError | ConfigError)
            self.store.tasks.unreserve(task_id, by=self.identity.id)
            raise

    def _bury(self) -> None:
        """Children that ended: one that died holding a task is reaped without waiting for its lease."""
        for ended in self.dispatcher.ended():
            try:
                self._bury_one(ended)
            except Exception as error:  # noqa: BLE001 — the lease or the reservation runs out by itself; a bug here is no more than told
                self._tell_once(f"a worker's end could not be recorded: {trouble(error)}")

    def _bury_one(self, ended: Ended) -> None:
        task = self.store.tasks.get(ended.task_id)
        if task.state is TaskState.RUNNING and task.worker == ended.worker:
            self._reap_dead(task, ended)
        elif task.state in {TaskState.QUEUED, TaskState.RETRYABLE} and not self._has_claimed(task, ended.worker):
            self._early_ends[task.id] += 1
            self._faults[task.id] += ended.exit_code not in NO_FAULT
            if self._early_ends[task.id] == 1:
                self.report(
                    f"a worker for {task.ref} ended with {ended.exit_code} before it took the task; its log tells why"
                )
            if self._early_ends[task.id] <= EARLY_ENDS_MAX:
                self.store.tasks.unreserve(task.id, by=self.identity.id)
        else:
            del self._early_ends[task.id], self._faults[task.id]

    def _has_claimed(self, task: Task, worker: WorkerId) -> bool:
        """Whether the worker took the task before it ended; then it settled it by itself, to be tried again."""
        facts = (event.fact for event in self.store.events.stream(task_stream(task.id)))
        return any(isinstance(fact, TaskClaimed) and fact.worker == worker for fact in facts)

    def _reap_dead(self, task: Task, ended: Ended) -> None:
        decision = judge(Outcome.CRASHED, task.counters, self.policies.retry, chance=self.chance.fraction())
        reason = f"its worker (pid {ended.pid}) ended with {ended.exit_code} and no word"
        self.store.claims.reap(
            task.id, epoch=task.epoch, decision=decision, by=self.identity.id, reason=reason, dead=ended.worker
        )

    # Waiting and ending

    def _wait(self) -> None:
        """Until news, a child's end, a signal, or the next tick's time; polling always, notification as a hint."""
        until = self.clock.monotonic() + self._pause.total_seconds()
        # A worker's last word is news, and its process ends right after it: at first we look again soon.
        look_again = POLL_FIRST
        while not self._signals and (left := until - self.clock.monotonic()) > 0:
            self.supervisor.alive()
            try:
                if self.store.wait_for_news(min(look_again, timedelta(seconds=left))) or self.dispatcher.has_ended:
                    return
                look_again = min(POLL, look_again * 2)
            except TransientError as error:
                self._tell_once(f"waiting for the database: {error}")
                self.clock.pause(min(POLL, timedelta(seconds=left)))

    def _end_of_rest(self) -> ExitCode | None:
        """How waiting until idle ends, if it does: after a whole round in which nothing moved and nothing was to be done."""
        if not self._is_at_rest:
            return None
        if not self._missed:
            return self._end_of_paused() if self._held else ExitCode.DELIVERED
        self._missed_looks += 1
        if self._missed_looks < MISSED_LOOKS_MAX:
            self._rest.restart()
            self._missed.clear()
            self._held.clear()
            return None
        self.report(f"nothing is left to do, but this could not be looked at: {', '.join(sorted(self._missed))}")
        return ExitCode.TEMPORARY

    def _end_of_paused(self) -> ExitCode:
        named = ", ".join(sorted(self._held)[:HELD_NAMED_MAX])
        more = f" and {len(self._held) - HELD_NAMED_MAX} more" if len(self._held) > HELD_NAMED_MAX else ""
        self.report(f"nothing is left to do, but this waits until work is no longer paused: {named}{more}")
        return ExitCode.TEMPORARY

    def _give_up_if_no_worker_starts(self) -> None:
        """Waiting until idle must end: a task whose workers all died before they took it would be started for ever."""
        hopeless = [task_id for task_id, n in self._faults.items() if n > EARLY_ENDS_MAX]
        if hopeless:
            raise ConfigError(
                f"{EARLY_ENDS_MAX + 1} workers for task {hopeless[0]} could not be started, or ended before they took it",
                why="the last lines of its log in the state folder's logs tell",
                fix=f"`tamma work --task-id {hopeless[0]}` shows it here; `tamma doctor` checks each part",
            )

    def _wait_for_own_workers(self) -> None:
        while self.dispatcher.running() and not self._signals:
            self.supervisor.alive()
            self.dispatcher.wait(POLL)
        self._bury()

    def _drain(self) -> ExitCode:
        """First signal: start nothing, let workers finish for a while, then ask them to stop. Second: ask at once. Third, or
        when they do not stop: kill."""
        self.supervisor.stopping()
        with suppress(TammaError):
            self.store.workers.change_state(self.identity.id, WorkerState.DRAINING, reason="signal")
        if running := len(self.dispatcher.running()):
            self.report(f"draining: {counted(running, 'worker')} running, press Ctrl-C again to stop them")
        until = self.clock.monotonic() + self.drain_limit.total_seconds()
        asked_at: float | None = None
        while running := len(self.dispatcher.running()):
            self.supervisor.alive()
            now = self.clock.monotonic()
            if self._signals >= 3:
                if not self._kill():
                    break
            elif asked_at is None and (self._signals >= 2 or now >= until):
                asked_at = now
                self.dispatcher.drain()
            elif asked_at is not None and now - asked_at >= self.stop_limit.total_seconds():
                limit = f"{self.stop_limit.total_seconds():g} s"
                self.report(f"{counted(running, 'worker')} did not stop within {limit}: killed")
                if not self._kill():
                    break
            self.dispatcher.wait(POLL)
        self._bury()
        is_aborted = asked_at is not None or self._signals >= 2
        return self.interruption.exit_code if is_aborted else ExitCode.DELIVERED

    def _kill(self) -> bool:
        """Whether all are gone; one that cannot be killed is left to its lease, and is no reason not to end."""
        try:
            self.dispatcher.kill()
        except TammaError as error:
            self.report(f"not every worker could be killed: {error}")
            return False
        return True

    def _mention(self, sighting: Sighting) -> None:
        for pause in sighting.pauses:
            running = len(self.dispatcher.running())
            waits = f"; {counted(running, 'attempt')} under way may wait for that with its work" if running else ""
            self._tell_once(f"{pause}; {pause.fix}{waits}")
        for bad in sighting.malformed:
            of = bad.ref if isinstance(bad.ref, str) else f"issue {bad.ref}"
            self._tell_once(f"{of} is skipped: {bad.why}")
        for repository, why in sighting.away:
            self._tell_once(f"repository {repository} is skipped for now: {why}")
        for ref, why in sighting.unread:
            self._tell_once(f"issue {ref} cannot be looked at for now: {why}")

    def _tell_once(self, line: str) -> None:
        """The same trouble is told once, not each tick; and again if it had gone for a whole round."""
        if line not in self._told_before | self._told_now:
            self.report(line)
        self._told_now.add(line)


def decide(sighting: Sighting, policies: Policies, *, chance: float) -> tuple[Action, ...]:
    """The actions of one tick over a sighting; also what a dry run prints."""
    return reconcile(
        sighting.view, limits=policies.limits, selection=policies.selection, retry=policies.retry, chance=chance
    )
