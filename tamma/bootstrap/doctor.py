"""``tamma doctor``: each part is tried for real, and what is found is said with what to do about it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from tamma.bootstrap import database, parts
from tamma.bootstrap.programs import Programs, asked_for, require_environment
from tamma.config import policies as mapped
from tamma.config.fields import mask_password
from tamma.config.loader import LOST_FIX, Loaded, load
from tamma.config.policies import RepositoryConfig
from tamma.config.reference import describe
from tamma.config.schema import AgentKind, GateSettings
from tamma.core.errors import PASSING, ConfigError, TammaError, remedy
from tamma.core.moment import local
from tamma.core.redact import bounded
from tamma.core.words import counted
from tamma.ports.forge import Forge
from tamma.ports.system import ProcessLimits

_FREE_BYTES_MIN: Final = 1_000_000_000
_BLOCK_BYTES: Final = 4_096
State = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One part, as it was found."""

    part: str
    state: State
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All checks, and every setting with its value and origin."""

    checks: tuple[Check, ...]
    settings: tuple[tuple[str, str, str], ...]


def examine(config: Path | None) -> Examination:
    """Try each part; a part that is broken hides no other. Raises ConfigError only if the configuration cannot be read."""
    loaded = load(config)
    return Examination(checks=tuple(_checks(loaded)), settings=tuple(describe(loaded)))


def _checks(loaded: Loaded) -> Iterator[Check]:
    yield _configuration(loaded)
    yield _tried("python", _python)
    yield _tried("state folder", lambda: _state(loaded))
    yield _tried("database", lambda: _database(loaded))
    forge: list[Forge] = []
    yield _tried("forge", lambda: _forge(loaded, forge))
    for name in [remote.name for remote in forge[0].repositories()] if forge else []:
        yield from _about_repository(loaded, forge[0], name)
    yield _tried("sandbox", lambda: _sandbox(loaded))


def _about_repository(loaded: Loaded, forge: Forge, name: str) -> Iterator[Check]:
    in_base: dict[str, set[str]] = {}
    own = mapped.for_repository(loaded.config, name)
    yield _tried(f"repository {name}", lambda: _repository(loaded, forge, name, in_base))
    programs = Programs(search_path=loaded.environ.get("PATH"), folder=loaded.base, in_base=in_base.get(name))
    yield _tried(f"changes of {name}", lambda: _changes(loaded, forge, name))
    yield _tried(f"environment of {name}", lambda: _environment(own, programs))
    yield _tried(f"agent of {name}", lambda: _agent(loaded, own, programs))
    yield _tried(f"gates of {name}", lambda: _gates(own, programs))


def _tried(part: str, look: Callable[[], Check | str]) -> Check:
    try:
        found = look()
    except TammaError as error:
        return Check(part=part, state="broken", detail=str(error), fix=error.fix)
    except OSError as error:
        return Check(part=part, state="broken", detail=str(error), fix=_cure(error))
    return found if isinstance(found, Check) else Check(part=part, state="ok", detail=found)


def _cure(error: OSError) -> str:
    return remedy(error.errno) if error.errno in PASSING else "check the path and its permissions"


def _configuration(loaded: Loaded) -> Check:
    if loaded.path is not None:
        return Check(part="configuration", state="ok", detail=str(loaded.path))
    return Check(
        part="configuration",
        state="warning",
        detail=f"defaults and environment: no tamma.toml is in {loaded.base} or above it",
        fix=LOST_FIX,
    )


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _state(loaded: Loaded) -> Check | str:
    folder = database.make_state_folder(loaded)
    _require_writable(folder)
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES_MIN:
        return Check(
            part="state folder",
            state="warning",
            detail=f"{folder}: only {free >> 20} MiB free",
            fix="make room, or move state.folder",
        )
    return f"{folder}, {free >> 30} GiB free"


def _require_writable(folder: Path) -> None:
    """A block is written, since an empty file can still be made on a disk that is full."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(bytes(_BLOCK_BYTES))
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written to", why=error.strerror or str(error), fix=_cure(error)
        ) from error


def _database(loaded: Loaded) -> Check | str:
    if not database.has_database(loaded):
        return Check(
            part="database",
            state="warning",
            detail="none yet",
            fix="`tamma orchestrate` makes an embedded one by itself",
        )
    url = database.ready_url(loaded, may_create=False)
    store = database.open_store(loaded, url, application_name="tamma doctor", connections_max=1)
    try:
        now = store.ping()
    finally:
        store.close()
    kind = mask_password(url) if database.configured_url(loaded) else "embedded"
    return f"{kind}, schema current, its clock says {local(now)}"


def _forge(loaded: Loaded, found: list[Forge]) -> Check | str:
    forge = parts.forge(loaded)
    found.append(forge)
    names = [remote.name for remote in forge.repositories()]
    if not names:
        return Check(
            part="forge",
            state="broken",
            detail="no repository",
            fix="put one at <forge.root>/<name>/repo.git, or name it in [repositories]",
        )
    return f"{forge.name}, as {forge.user}: {', '.join(names)}"


def _repository(loaded: Loaded, forge: Forge, name: str, in_base: dict[str, set[str]]) -> Check | str:
    remote = next(r for r in forge.repositories() if r.name == name)
    page = forge.open_issues(name, label=loaded.config.select.label.lower(), limit=loaded.config.limits.candidates_max)
    with tempfile.TemporaryDirectory() as scratch:
        workspaces = parts.workspaces_in(loaded, Path(scratch))
        base = workspaces.fetch_base(remote)
        wanted = set(asked_for(mapped.for_repository(loaded.config, name), folder=loaded.base))
        in_base[name] = {path for path in wanted if workspaces.read_file(remote, base.commit, path) is not None}
    asking = counted(len(page.issues), "issue asks", "issues ask")
    detail = f"base {base.branch} at {base.commit[:12]}, {asking} for work"
    if page.malformed:
        worst = page.malformed[0]
        return Check(
            part=f"repository {name}",
            state="warning",
            detail=f"{detail}; {len(page.malformed)} unreadable, e.g. {worst.ref}: {worst.why}",
        )
    return detail


def _changes(loaded: Loaded, forge: Forge, name: str) -> Check | str:
    """Whether they can be kept: better told before a delivery. One that cannot be read is told with the repository."""
    for folder in parts.local_folders(loaded, name):
        if not folder.exists() and not folder.parent.is_dir():
            return Check(
                part=f"changes of {name}", state="broken", detail=f"{folder.parent} is not there", fix="make it"
            )
        _require_writable(folder if folder.exists() else folder.parent)
    return f"{counted(forge.count_open_changes(name), 'change')} of ours open; issues and changes can be written"


def _environment(own: RepositoryConfig, programs: Programs) -> Check | str:
    unknown = [
        programs.require(argv[0], key="environment.setup", may_be_made=n > 0)
        for n, argv in enumerate(own.environment.setup)
    ]
    told = f"{counted(len(unknown), 'command prepares', 'commands prepare')} it" if unknown else "none is needed"
    return "; ".join([told, *filter(None, dict.fromkeys(unknown))])


def _agent(loaded: Loaded, own: RepositoryConfig, programs: Programs) -> Check | str:
    agent = parts.agent(loaded, own.agent)
    require_environment(own, (*own.agent.argv, *own.agent.env.values()), key="agent.argv")
    unknown = programs.require(own.agent.argv[0], key="agent.argv") if own.agent.kind is AgentKind.COMMAND else ""
    told = f"{agent.name}; {unknown}" if unknown else agent.name
    if own.agent.kind is AgentKind.COMMAND and (strays := programs.strays(own.agent.argv)):
        return _stray(f"agent of {own.name}", told, strays, programs)
    return told


def _gates(own: RepositoryConfig, programs: Programs) -> Check | str:
    if not own.gates:
        return Check(
            part=f"gates of {own.name}",
            state="warning",
            detail="none: every change that stays in its budget is delivered",
            fix="add a [[gates]] entry to tamma.toml; docs/configuration.md has its keys",
        )
    found = [_gate(own, gate, programs) for gate in own.gates]
    told = "; ".join([", ".join(gate.name for gate in own.gates), *filter(None, dict.fromkeys(found))])
    strays = [path for gate in own.gates for path in programs.strays(gate.argv, cwd=gate.cwd)]
    return _stray(f"gates of {own.name}", told, strays, programs) if strays else told


def _stray(part: str, told: str, strays: Sequence[str], programs: Programs) -> Check:
    """A warning: a relative argument is looked for in the checkout, and this one is only beside the configuration."""
    whole = ", ".join(str((programs.folder / path).resolve()) for path in strays)
    return Check(
        part=part,
        state="warning",
        detail=f"{told}; {', '.join(strays)} is beside the configuration, but not in the base commit, where it runs",
        fix=f"commit it, or write its whole path: {whole}",
    )


def _gate(own: RepositoryConfig, gate: GateSettings, programs: Programs) -> str:
    try:
        require_environment(own, (*gate.argv, *gate.env.values()), key="the gate's argv")
        return programs.require(gate.argv[0], key="the gate's argv", cwd=gate.cwd)
    except ConfigError as error:
        raise ConfigError(f"{gate.name}: {error.what}", why=error.why, fix=error.fix) from error


def _sandbox(loaded: Loaded) -> Check:
    sandbox = parts.sandbox(loaded)
    with tempfile.TemporaryDirectory() as folder:
        ended = sandbox.box(Path(folder), tag="doctor").spawn(
            [sys.executable, "-c", "print('inside')"], env={}, limits=ProcessLimits(wall_clock=timedelta(seconds=20))
        )
    if not ended.is_ok:
        return Check(
            part="sandbox", state="broken", detail=bounded(ended.output, bytes_max=500), fix="see docs/agents.md"
        )
    if sandbox.name == "none":
        return Check(
            part="sandbox",
            state="warning",
            detail="unsandboxed: agents and gates run as this user, with this user's rights",
        )
    return Check(part="sandbox", state="ok", detail=sandbox.name)
