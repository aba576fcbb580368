"""Configuration to parts: the literal registries of what can be chosen, and the adapters themselves."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tamma.adapters.agents.command import CommandAgent, PromptBy
from tamma.adapters.agents.scripted import ScriptedAgent
from tamma.adapters.environments import CachedEnvironments
from tamma.adapters.forges.around import FORGE_POINTS, AskedAgain, AtFailPoints, ForgeAround, LeftAlone
from tamma.adapters.forges.local import LocalForge, LocalRepository
from tamma.adapters.git import GitWorkspaces
from tamma.adapters.postgres.archive_file import ARCHIVE_POINTS
from tamma.adapters.sandboxes.none import DEFAULT_ENV_ALLOW, SETUP_ENV_ALLOW, NoSandbox, is_allowed
from tamma.adapters.system import NamedFailPoints, NoFailPoints, OsProcesses, SystemChance, SystemClock
from tamma.bootstrap.database import state_folder
from tamma.config import policies as mapped
from tamma.config.loader import Loaded
from tamma.config.schema import AgentKind, AgentSettings, ForgeKind, LogFormat, SandboxKind
from tamma.core.errors import ConfigError
from tamma.core.ids import BOOT_ID_VARIABLE, IssueRef, worker_id
from tamma.core.redact import Redactor
from tamma.engine.failpoints import FAIL_POINTS
from tamma.engine.plan import Identity, Policies, RepositoryPlan
from tamma.logs import set_up
from tamma.ports.agent import Agent
from tamma.ports.forge import Forge
from tamma.ports.sandbox import Sandbox
from tamma.ports.system import FailPoints


def policies(loaded: Loaded) -> Policies:
    """The numbers and rules of this installation."""
    config = loaded.config
    return Policies(
        leases=mapped.as_lease_policy(config.lease),
        retry=mapped.as_retry_policy(config.retry),
        limits=mapped.as_limits(config.limits),
        selection=mapped.as_selection_policy(config.select),
    )


def identity(boot: str | None = None) -> Identity:
    """This process, for as long as it lives; ``boot`` where whoever started it chose its boot id."""
    host, pid = socket.gethostname(), os.getpid()
    me = worker_id(host=host, pid=pid, boot=boot or secrets.token_hex(8))
    return Identity(id=me, host=host, pid=pid, release=version("tamma"))


def redactor(loaded: Loaded) -> Redactor:
    """Knows every secret of this process's environment and configuration."""
    return Redactor(loaded.secrets())


def logging(loaded: Loaded) -> None:
    """Log lines of this process, on stderr, as [log] says."""
    settings = loaded.config.log
    set_up(
        level=settings.level.value,
        as_json=settings.format is LogFormat.JSON,
        redactor=redactor(loaded),
        no_color=bool(loaded.environ.get("NO_COLOR")),
    )


def fail_points(loaded: Loaded) -> FailPoints:
    """Off, unless TAMMA_FAILPOINTS names some. Raises ConfigError for a name that no code reaches: it would test nothing."""
    known = FAIL_POINTS | FORGE_POINTS | ARCHIVE_POINTS
    for name in loaded.fail_points.keys() - known:
        near = get_close_matches(name, known, n=1)
        raise ConfigError(
            f"there is no fail point {name!r}",
            fix=f"did you mean {near[0]!r}?"
            if near
            else "see tamma/engine/failpoints.py, FORGE_POINTS and ARCHIVE_POINTS",
        )
    if not loaded.fail_points:
        return NoFailPoints()
    return NamedFailPoints(loaded.fail_points, is_dispatched=BOOT_ID_VARIABLE in loaded.environ)


# Forges


def forge(loaded: Loaded) -> Forge:
    """The configured forge with its repositories; left alone where it asks for that."""
    chosen = FORGES[loaded.config.forge.kind](loaded)
    if loaded.fail_points.keys() & FORGE_POINTS:
        chosen = ForgeAround(chosen, AtFailPoints(fail_points(loaded)))
    return ForgeAround(chosen, LeftAlone(SystemClock().monotonic))


def patient_forge(loaded: Loaded, *, should_stop: Callable[[], bool]) -> Forge:
    """The same for one attempt, which asks again what only reads: less than a whole attempt is lost with one answer."""
    again = AskedAgain(clock=SystemClock(), chance=SystemChance(), should_stop=should_stop)
    return ForgeAround(forge(loaded), again)


def _local_forge(loaded: Loaded) -> Forge:
    settings = loaded.config.forge
    root = loaded.resolve(settings.root)
    names = sorted(loaded.config.repositories) or _found_in(root)
    return LocalForge(
        name=settings.name or settings.kind,
        user=settings.user,
        repositories=[_local_repository(loaded, root, name) for name in names],
    )


def _found_in(root: Path) -> list[str]:
    """Every folder with a repo.git."""
    try:
        return sorted(entry.name for entry in root.iterdir() if (entry / "repo.git").is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"forge.root {root} cannot be read",
            why=error.strerror or str(error),
            fix="check the path and its permissions",
        ) from error


def _local_repository(loaded: Loaded, root: Path, name: str) -> LocalRepository:
    table = mapped.for_repository(loaded.config, name).table
    git = table.git or str(root / name / "repo.git")
    return LocalRepository(
        name=name,
        git_url=git if "://" in git else str(loaded.resolve(git)),
        issues=loaded.resolve(table.issues or root / name / "issues"),
        changes=loaded.resolve(table.changes or root / name / "changes"),
        base_branch=table.base_branch,
    )


def local_folders(loaded: Loaded, name: str) -> tuple[Path, ...]:
    """Where a forge on this machine keeps a repository's issues and changes."""
    if loaded.config.forge.kind is not ForgeKind.LOCAL:
        return ()
    repository = _local_repository(loaded, loaded.resolve(loaded.config.forge.root), name)
    return repository.issues, repository.changes


FORGES: Final[Mapping[ForgeKind, Callable[[Loaded], Forge]]] = {ForgeKind.LOCAL: _local_forge}


def parse_issue(text: str, of: Forge) -> IssueRef:
    """``repository#number``; the number alone where there is one repository. Raises ConfigError."""
    names = [remote.name for remote in of.repositories()]
    ref = IssueRef.parse(text, forge=of.name, repository=names[0] if len(names) == 1 else None)
    if ref.repository not in names:
        known = ", ".join(names) or "none is configured"
        raise ConfigError(
            f"there is no repository {ref.repository!r}",
            why=f"known are: {known}",
            fix="see [forge] and [repositories]",
        )
    return ref


# Agents


def agent(loaded: Loaded, settings: AgentSettings) -> Agent:
    """The agent these settings describe. Raises ConfigError if they are not enough."""
    return AGENTS[settings.kind](loaded, settings)


def _command(loaded: Loaded, settings: AgentSettings) -> Agent:
    if not settings.argv:
        raise ConfigError(
            "no agent is configured",
            why="agent.argv is empty",
            fix='set [agent] argv = ["your-agent", …], or kind = "scripted"',
        )
    passed = {name: value for name, value in loaded.environ.items() if is_allowed(name, settings.env_allow)}
    return CommandAgent(
        settings.argv,
        name=Path(settings.argv[0]).name,
        prompt=PromptBy(settings.prompt.value),
        env=passed | dict(settings.env),
    )


def _scripted(loaded: Loaded, settings: AgentSettings) -> Agent:
    if settings.script is None:
        raise ConfigError(
            "the scripted agent has no script", why="agent.script is not set", fix="name the file to play"
        )
    return ScriptedAgent(loaded.resolve(settings.script))


AGENTS: Final[Mapping[AgentKind, Callable[[Loaded, AgentSettings], Agent]]] = {
    AgentKind.COMMAND: _command,
    AgentKind.SCRIPTED: _scripted,
}


# What a worker needs


def _no_sandbox(loaded: Loaded, env_allow: Collection[str]) -> Sandbox:
    realm = sha256(str(state_folder(loaded).resolve()).encode()).hexdigest()[:12]
    # Not below the state folder, which may lie in a checkout: a test in TMPDIR would find that checkout's git and settings,
    # and a socket there may have too long a name.
    boxes = Path(tempfile.gettempdir()) / f"tamma-{realm}"
    return NoSandbox(OsProcesses(), env_allow=env_allow, environ=loaded.environ, realm=realm, boxes=boxes)


SANDBOXES: Final[Mapping[SandboxKind, Callable[[Loaded, Collection[str]], Sandbox]]] = {SandboxKind.NONE: _no_sandbox}


def sandbox(loaded: Loaded) -> Sandbox:
    """The configured sandbox, for agents and gates."""
    return SANDBOXES[loaded.config.sandbox.kind](loaded, DEFAULT_ENV_ALLOW)


def environments(loaded: Loaded) -> CachedEnvironments:
    """The cache of prepared environments; set-up also gets what it takes to reach package registries."""
    within = SANDBOXES[loaded.config.sandbox.kind](loaded, SETUP_ENV_ALLOW)
    return CachedEnvironments(
        state_folder(loaded) / "environments",
        within,
        size_bytes_max=loaded.config.environment.cache_bytes_max,
        search_path=loaded.environ.get("PATH", os.defpath),
    )


def workspaces(loaded: Loaded) -> GitWorkspaces:
    """Mirrors and workspaces in the state folder."""
    return workspaces_in(loaded, state_folder(loaded))


def workspaces_in(loaded: Loaded, folder: Path) -> GitWorkspaces:
    """The same somewhere else, for a look that must leave no trace."""
    config = loaded.config
    own = {name: mapped.as_change_policy(mapped.for_repository(config, name).change) for name in config.repositories}
    return GitWorkspaces(state=folder, policy=mapped.as_change_policy(config.change), policies=own)


def plans(loaded: Loaded, of: Forge) -> Callable[[str], RepositoryPlan]:
    """What the engine asks for each repository by name. Raises ConfigError for one that is not configured."""
    remotes = {remote.name: remote for remote in of.repositories()}

    @cache
    def plan_for(name: str) -> RepositoryPlan:
        if name not in remotes:
            raise ConfigError(
                f"there is no repository {name!r}",
                why="it is not in [repositories]",
                fix="configure it, or cancel its tasks",
            )
        own = mapped.for_repository(loaded.config, name)
        return RepositoryPlan(
            remote=remotes[name],
            agent=agent(loaded, own.agent),
            agent_policy=mapped.as_agent_policy(own.agent),
            gates=mapped.as_gate_specs(own.gates),
            environment=mapped.as_environment_spec(own.environment),
            change=mapped.as_change_policy(own.change),
        )

    return plan_for


def require_work(loaded: Loaded, of: Forge) -> tuple[str, ...]:
    """What keeps single repositories from being worked on, in words; raises ConfigError if there is none that can be.

    Asked before the loop starts: otherwise each of its workers would find out anew, attempt after attempt.
    """
    names = [remote.name for remote in of.repositories()]
    if not names:
        root = loaded.resolve(loaded.config.forge.root)
        raise loaded.missing(
            "there is no repository",
            why=f"none is in {root}, and [repositories] names none",
            fix="put a bare one at <forge.root>/<name>/repo.git",
        )
    wrong = unfit(loaded, of)
    if len(wrong) == len(names):
        raise wrong[names[0]]
    return tuple(f"repository {name} cannot be worked on: {error}; {error.fix}" for name, error in wrong.items())


def unfit(loaded: Loaded, of: Forge) -> dict[str, ConfigError]:
    """Repositories whose configuration is not enough to work on them, by name; none where others do the work."""
    if loaded.config.limits.workers == 0:
        return {}
    plan_for, wrong = plans(loaded, of), dict[str, ConfigError]()
    for remote in of.repositories():
        try:
            plan_for(remote.name)
        except ConfigError as error:
            wrong[remote.name] = error
    return wrong
