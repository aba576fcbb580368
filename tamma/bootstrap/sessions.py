"""Sessions: a configuration, a ready database and the parts a command works with, closed at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from getpass import getuser
from pathlib import Path

from tamma.adapters.dispatch.local import LocalDispatcher
from tamma.adapters.system import SystemChance, SystemClock, supervisor_of
from tamma.bootstrap import database, parts
from tamma.bootstrap.programs import agent_trouble
from tamma.config.loader import Loaded, load
from tamma.config.policies import for_repository
from tamma.core.change import Change
from tamma.core.errors import ConfigError, ExitCode
from tamma.core.ids import BOOT_ID_VARIABLE, IssueRef, TaskId
from tamma.core.pause import Paused
from tamma.core.reconcile import Action
from tamma.engine.explain import Explainer
from tamma.engine.housekeeping import Housekeeper
from tamma.engine.intake import Intake
from tamma.engine.lookup import Lookup
from tamma.engine.notices import Herald
from tamma.engine.observer import Observer, Sighting
from tamma.engine.operations import Operations
from tamma.engine.orchestrator import Orchestrator, decide
from tamma.engine.plan import Interruption, Policies, WorkerDeps
from tamma.engine.worker import WorkResult, work
from tamma.logs import LoggedStore
from tamma.ports.forge import Forge
from tamma.ports.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What commands that look and operate need."""

    loaded: Loaded
    store: Store
    forge: Forge
    policies: Policies
    intake: Intake

    def parse_issue(self, text: str) -> IssueRef:
        """An issue as a person writes it. Raises ConfigError."""
        return parts.parse_issue(text, self.forge)

    @property
    def lookup(self) -> Lookup:
        """Finds the task that a person names."""
        return Lookup(store=self.store, parse_issue=self.parse_issue)

    @property
    def explainer(self) -> Explainer:
        """Answers why."""
        return Explainer(store=self.store, forge=self.forge, intake=self.intake, policies=self.policies)

    @property
    def operations(self) -> Operations:
        """What a human may decide."""
        return Operations(store=self.store, forge=self.forge, intake=self.intake, by=_person())


def _person() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "operator"


@contextmanager
def open_session(config: Path | None, *, may_create: bool = False) -> Iterator[Session]:
    """Over an existing database. Raises ConfigError if there is none."""
    loaded = load(config)
    url = database.ready_url(loaded, may_create=may_create)
    store = database.open_store(loaded, url, application_name="tamma look")
    try:
        yield _session(loaded, store)
    finally:
        store.close()


def _session(loaded: Loaded, store: Store) -> Session:
    forge, policies = parts.forge(loaded), parts.policies(loaded)
    return Session(
        loaded=loaded, store=store, forge=forge, policies=policies, intake=_intake(loaded, store, forge, policies)
    )


def _intake(loaded: Loaded, store: Store | None, forge: Forge, policies: Policies) -> Intake:
    return Intake(
        store=store,
        forge=forge,
        limits=policies.limits,
        selection=policies.selection,
        unfit=parts.unfit(loaded, forge),
    )


# tamma work


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSession:
    """One process that executes one task."""

    deps: WorkerDeps
    intake: Intake

    @property
    def lookup(self) -> Lookup:
        """Finds the task that a person names."""
        return Lookup(store=self.deps.store, parse_issue=lambda text: parts.parse_issue(text, self.deps.forge))

    def work(self, task_id: TaskId) -> WorkResult:
        """Execute the task. Raises NoSuchTask, NotClaimable, TransientError."""
        return work(task_id, self.deps)

    def work_on_issue(self, text: str) -> WorkResult:
        """Find or make the issue's task and execute it; the forge is asked first, since there may be no shared database.

        An open or merged change of ours is the answer already. Raises as ``work`` and ``Intake.answer``.
        """
        ref = parts.parse_issue(text, self.deps.forge)
        if (pause := self.deps.store.pauses.of(ref)) is not None:  # before a task is made
            raise Paused(pause)
        found = self.intake.answer(ref, asked_by=_person())
        if isinstance(found, Change):
            return WorkResult(exit_code=ExitCode.DELIVERED, reason=f"change {found.id} ({found.url}) is {found.state}")
        return self.work(found.id)


@contextmanager
def open_worker(config: Path | None, *, by_issue: bool, log_format: str | None = None) -> Iterator[WorkerSession]:
    """For one task. With ``by_issue`` an embedded database is made where there is none. Raises ConfigError, TransientError."""
    loaded = load(config, {"log.format": log_format})
    parts.logging(loaded)
    interruption, policies = Interruption(), parts.policies(loaded)
    forge = parts.patient_forge(loaded, should_stop=lambda: interruption.is_set)
    url = database.ready_url(loaded, may_create=by_issue, fix="use --issue, or set DATABASE_URL")
    database.make_state_folder(loaded)
    # An attempt outlives a restart of the database as long as it may believe in its lease.
    patience = policies.leases.fence
    store = LoggedStore(database.open_store(loaded, url, application_name="tamma work", patience=patience))
    sandbox = parts.sandbox(loaded)
    deps = WorkerDeps(
        identity=parts.identity(loaded.environ.get(BOOT_ID_VARIABLE)),
        store=store,
        open_store=lambda: database.open_store(loaded, url, application_name="tamma beat", connections_max=1),
        forge=forge,
        workspaces=parts.workspaces(loaded),
        sandbox=sandbox,
        environments=parts.environments(loaded),
        plan_for=parts.plans(loaded, forge),
        policies=policies,
        clock=SystemClock(),
        chance=SystemChance(),
        fail_points=parts.fail_points(loaded),
        redactor=parts.redactor(loaded),
        interruption=interruption,
    )
    try:
        yield WorkerSession(deps=deps, intake=_intake(loaded, store, forge, policies))
    finally:
        store.close()


# tamma orchestrate


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSession:
    """One process that runs the loop, and further connections for whoever watches it. ``troubles`` are to be told first."""

    orchestrator: Orchestrator
    open_store: Callable[[], Store]
    troubles: tuple[str, ...]


@contextmanager
def open_orchestrator(
    config: Path | None, *, workers: int | None, log_format: str | None = None
) -> Iterator[LoopSession]:
    """The loop, ready to run; an embedded database is made where there is none. Raises ConfigError, TransientError."""
    loaded = load(config, {"limits.workers": workers, "log.format": log_format})
    parts.logging(loaded)
    troubles = parts.require_work(loaded, parts.forge(loaded))
    url = database.ready_url(loaded, may_create=True)
    database.make_state_folder(loaded)
    store = database.open_store(loaded, url, application_name="tamma orchestrate")
    session = _session(loaded, store)
    me, points = parts.identity(), parts.fail_points(loaded)
    herald = Herald(
        store=store,
        forge=session.forge,
        fail_points=points,
        by=me.id,
        leases=session.policies.leases,
        trigger=session.policies.selection.trigger,
    )
    keeper = Housekeeper(
        store=store,
        forge=session.forge,
        workspaces=parts.workspaces(loaded),
        sandbox=parts.sandbox(loaded),
        redactor=parts.redactor(loaded),
        by=me.id,
    )
    limits = loaded.config.limits
    try:
        yield LoopSession(
            orchestrator=Orchestrator(
                identity=me,
                store=store,
                observer=Observer(store=store, forge=session.forge, intake=session.intake, policies=session.policies),
                intake=session.intake,
                herald=herald,
                dispatcher=_dispatcher(loaded, host=me.host),
                policies=session.policies,
                clock=SystemClock(),
                chance=SystemChance(),
                interruption=Interruption(),
                supervisor=supervisor_of(loaded.environ),
                tick_interval=timedelta(seconds=limits.tick_seconds),
                tidy=lambda: keeper.tidy(chance=SystemChance().fraction()),
                drain_limit=timedelta(seconds=limits.drain_seconds),
                revive=None
                if database.configured_url(loaded)
                else partial(database.embedded(loaded).start, may_create=False),
            ),
            open_store=lambda: database.open_store(loaded, url, application_name="tamma watch", connections_max=1),
            troubles=troubles,
        )
    finally:
        store.close()


def _dispatcher(loaded: Loaded, *, host: str) -> LocalDispatcher:
    config = ["--config", str(loaded.path)] if loaded.path else []
    return LocalDispatcher(
        argv=[sys.executable, "-m", "tamma", *config],
        env=loaded.environ,
        cwd=Path.cwd(),
        workers_max=loaded.config.limits.workers,
        logs=database.state_folder(loaded) / "logs",
        host=host,
    )


def look_ahead(
    config: Path | None, *, workers: int | None
) -> tuple[Sighting, tuple[Action, ...], dict[str, ConfigError]]:
    """What the next tick would see and do, and of which repositories the agent cannot be started; writes and starts nothing, and
    looks without a database that does not run."""
    loaded = load(config, {"limits.workers": workers})
    forge, policies = parts.forge(loaded), parts.policies(loaded)
    parts.require_work(loaded, forge)
    with _running_store(loaded) as store:
        intake = _intake(loaded, store, forge, policies)
        observer = Observer(store=store, forge=forge, intake=intake, policies=policies)
        sighting = observer.observe(slots=loaded.config.limits.workers)
    if store is None and database.has_database(loaded):
        sighting = replace(
            sighting, away=(("the database", "it is not running, and a look starts none"), *sighting.away)
        )
    limit = policies.limits.candidates
    cut = [
        (f"more {look.of}", f"a tick looks at {limit} (limits.candidates_max), the next goes on")
        for look in sighting.looks
        if not look.is_last
    ]
    sighting = replace(sighting, away=(*sighting.away, *cut))
    found = {
        remote.name: agent_trouble(
            for_repository(loaded.config, remote.name), search_path=loaded.environ.get("PATH"), folder=loaded.base
        )
        for remote in forge.repositories()
        if loaded.config.limits.workers
    }
    troubles = {name: error for name, error in found.items() if error is not None}
    return sighting, decide(sighting, policies, chance=0.5), troubles


@contextmanager
def _running_store(loaded: Loaded) -> Iterator[Store | None]:
    url = database.running_url(loaded)
    if url is None:
        yield None
        return
    with closing(database.open_store(loaded, url, application_name="tamma look")) as store:
        yield store
