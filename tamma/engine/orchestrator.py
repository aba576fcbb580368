"""The loop: observe → reconcile → perform each → wait. Several on one database are safe: every action is guarded there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from tamma.core.errors import ExitCode, NotClaimable, TammaError, TransientError
from tamma.core.lease import LEASE_RAN_OUT
from tamma.core.moment import local
from tamma.core.reconcile import Action, CallOff, Create, Dispatch, MarkOffline, Reap, Tell, Unreserve, reconcile
from tamma.core.task import BY_LABEL
from tamma.core.words import counted
from tamma.engine.contained import trouble
from tamma.engine.coverage import Coverage
from tamma.engine.heartbeat import Pulse
from tamma.engine.intake import Intake
from tamma.engine.notices import Herald
from tamma.engine.nursery import Nursery
from tamma.engine.observer import Observer, Sighting
from tamma.engine.plan import Identity, Interruption, Policies
from tamma.engine.put_offs import PutOffs
from tamma.engine.rest import Rest
from tamma.engine.told import Told
from tamma.ports.dispatch import Dispatcher
from tamma.ports.store import Store, WorkerRole, WorkerState
from tamma.ports.system import Chance, Clock, Supervisor

POLL: Final = timedelta(milliseconds=500)
POLL_FIRST: Final = timedelta(milliseconds=50)
# Whoever asks to stop may ask several times at once (a supervisor and its wrapper, a key held down): that is one wish.
BURST: Final = timedelta(seconds=1)
# How long a worker may take to give its task back once it was asked to; then it is killed, and its task is reaped.
STOP_LIMIT: Final = timedelta(seconds=60)
TIDY_EVERY: Final = timedelta(minutes=10)
SHORTEST_PAUSE: Final = timedelta(milliseconds=50)


@unique
class Mode(StrEnum):
    """How long the loop goes on."""

    FOREVER = "forever"
    ONCE = "once"
    UNTIL_IDLE = "until-idle"


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
    _nursery: Nursery = field(init=False)
    _told: Told = field(init=False)
    _put_offs: PutOffs = field(default_factory=PutOffs)
    _rest: Rest = field(default_factory=Rest)
    _round: Coverage = field(default_factory=Coverage)
    _has_round: bool = False
    _signals: int = 0
    _signalled_at: float = 0.0
    _tidy_at: float = 0.0
    _pause: timedelta = timedelta(0)
    _first_due: datetime | None = None

    def __post_init__(self) -> None:
        self._told = Told(lambda line: self.report(line))
        self._nursery = Nursery(
            by=self.identity.id, store=self.store, dispatcher=self.dispatcher, policies=self.policies, chance=self.chance,
            told=self._told,
        )  # fmt: skip

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
                self._nursery.check_that_workers_start()
                if (end := self._rest.end()) is not None:
                    if end.why:
                        self.report(end.why)
                    return end.exit_code
                if self._first_due is not None:
                    self._told.once(f"waiting for a retry: the next is due at {local(self._first_due)}")
            # Who will not stay looks at all pages at once; who does, at one per tick.
            if mode is Mode.FOREVER or not has_looked or self._has_round or self._rest.is_whole:
                self._wait()
        return ExitCode.DELIVERED

    def _tick_safely(self) -> bool:
        """One tick; False if it had to be given up."""
        self._pause = self.tick_interval
        try:
            self.tick()
        except TransientError as error:
            self._told.once(f"the tick was given up: {error}")
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
            self._told.once(f"leftovers of tasks could not be removed: {trouble(error)}")

    def _revive_safely(self) -> None:
        if self.revive is not None:
            try:
                self.revive()
            except TammaError as error:
                self._told.once(f"the database could not be started again: {error}; {error.fix}")

    def tick(self) -> tuple[Action, ...]:
        """Observe, decide, perform; the actions that were decided."""
        self._nursery.bury()
        sighting = self.observer.observe(slots=self.dispatcher.slots)
        actions = tuple(action for action in self.decide(sighting) if not self._is_put_off(action))
        for action in actions:
            self._perform_safely(action)
            self.supervisor.alive()
        self._mention(sighting)
        due_in, self._first_due = sighting.view.due_in, sighting.view.first_due
        self._pause = self.tick_interval if due_in is None else max(SHORTEST_PAUSE, min(self.tick_interval, due_in))
        self._take_stock(sighting, actions)
        return actions

    def _take_stock(self, sighting: Sighting, actions: tuple[Action, ...]) -> None:
        """Which rounds over all pages this tick completed: of looking, and of looking while nothing moved."""
        self._has_round = self._round.has_whole(sighting.looks)
        if self._has_round:
            self._round.restart()
            self._told.end_round()
            self._put_offs.forget_old(now=self.clock.monotonic())
        if actions or sighting.is_moving or self.dispatcher.running():
            self._rest.disturb()
        else:
            missed = (*sighting.missed, *self._put_offs.passing(sighting.view.untold))
            self._rest.look(sighting.looks, missed=missed, held=sighting.held)

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
            if isinstance(action, Tell):
                now, is_passing = self.clock.monotonic(), isinstance(error, TransientError)
                self._put_offs.add(action.task, line, now=now, shortest=self.tick_interval, is_passing=is_passing)
            self._told.once(line)
        else:
            if isinstance(action, Tell):
                self._put_offs.remove(action.task)

    def _is_put_off(self, action: Action) -> bool:
        if not isinstance(action, Tell):
            return False
        put_off = self._put_offs.waiting(action.task, now=self.clock.monotonic())
        if put_off is not None:
            self._told.lasts(put_off.line)
        return put_off is not None

    def _perform(self, action: Action) -> None:
        tasks, claims, me = self.store.tasks, self.store.claims, self.identity.id
        match action:
            case Reap(task=task, decision=decision):
                claims.reap(task.id, epoch=task.epoch, decision=decision, by=me, reason=LEASE_RAN_OUT)
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
                self.intake.create(issue, generation=generation, asked_by=BY_LABEL, priority=priority)
            case Dispatch(task_id=task_id):
                self._nursery.start(task_id)

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
                self._told.once(f"waiting for the database: {error}")
                self.clock.pause(min(POLL, timedelta(seconds=left)))

    def _wait_for_own_workers(self) -> None:
        while self.dispatcher.running() and not self._signals:
            self.supervisor.alive()
            self.dispatcher.wait(POLL)
        self._nursery.bury()

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
                if not self._nursery.kill():
                    break
            elif asked_at is None and (self._signals >= 2 or now >= until):
                asked_at = now
                self.dispatcher.drain()
            elif asked_at is not None and now - asked_at >= self.stop_limit.total_seconds():
                limit = f"{self.stop_limit.total_seconds():g} s"
                self.report(f"{counted(running, 'worker')} did not stop within {limit}: killed")
                if not self._nursery.kill():
                    break
            self.dispatcher.wait(POLL)
        self._nursery.bury()
        is_aborted = asked_at is not None or self._signals >= 2
        return self.interruption.exit_code if is_aborted else ExitCode.DELIVERED

    def _mention(self, sighting: Sighting) -> None:
        for pause in sighting.pauses:
            running = len(self.dispatcher.running())
            waits = f"; {counted(running, 'attempt')} under way may wait for that with its work" if running else ""
            self._told.once(f"{pause}; {pause.fix}{waits}")
        for bad in sighting.malformed:
            of = bad.ref if isinstance(bad.ref, str) else f"issue {bad.ref}"
            self._told.once(f"{of} is skipped: {bad.why}")
        for repository, why in sighting.away:
            self._told.once(f"repository {repository} is skipped for now: {why}")
        for ref, why in sighting.unread:
            self._told.once(f"issue {ref} cannot be looked at for now: {why}")


def decide(sighting: Sighting, policies: Policies, *, chance: float) -> tuple[Action, ...]:
    """The actions of one tick over a sighting; also what a dry run prints."""
    return reconcile(
        sighting.view, limits=policies.limits, selection=policies.selection, retry=policies.retry, chance=chance
    )
