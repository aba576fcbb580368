"""What the engine needs to know about one repository and about the process it runs in; built by bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tamma.core.errors import ExitCode
from tamma.core.gate import GateSpec
from tamma.core.ids import WorkerId
from tamma.core.policy import AgentPolicy, ChangePolicy, LeasePolicy, Limits, RetryPolicy, SelectionPolicy
from tamma.core.redact import Redactor
from tamma.ports.agent import Agent
from tamma.ports.environment import Environments, EnvironmentSpec
from tamma.ports.forge import Forge
from tamma.ports.sandbox import Sandbox
from tamma.ports.store import Store
from tamma.ports.system import Chance, Clock, FailPoints
from tamma.ports.workspace import Remote, Workspaces


class Interruption:
    """Set once by a signal handler, seen by everything that waits; carries the exit code of its signal."""

    def __init__(self) -> None:
        # No Event: its lock is not reentrant, and a second signal may come while the first is handled.
        self._is_set = False
        self.exit_code = ExitCode.SIGTERM

    def set(self, exit_code: ExitCode) -> None:
        """The process was asked to stop."""
        self.exit_code = exit_code
        self._is_set = True

    @property
    def is_set(self) -> bool:
        """Whether it was."""
        return self._is_set


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryPlan:
    """One repository: where it is, who edits it, what its changes must pass."""

    remote: Remote
    agent: Agent
    agent_policy: AgentPolicy
    gates: tuple[GateSpec, ...]
    environment: EnvironmentSpec
    change: ChangePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """This process in the registry."""

    id: WorkerId
    host: str
    pid: int
    release: str
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The numbers and rules of this installation."""

    leases: LeasePolicy = field(default_factory=LeasePolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = field(default_factory=Limits)
    selection: SelectionPolicy = field(default_factory=SelectionPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDeps:
    """Everything an attempt touches. ``open_store`` opens another connection, for the heartbeat's thread."""

    identity: Identity
    store: Store
    open_store: Callable[[], Store]
    forge: Forge
    workspaces: Workspaces
    sandbox: Sandbox
    environments: Environments
    plan_for: Callable[[str], RepositoryPlan]
    policies: Policies
    clock: Clock
    chance: Chance
    fail_points: FailPoints
    redactor: Redactor = field(default_factory=Redactor)
    interruption: Interruption = field(default_factory=Interruption)
