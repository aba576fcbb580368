"""``tamma doctor``: each part is tried for real, and what is found is said with what to do about it."""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal

from tamma.bootstrap import database, parts
from tamma.config import policies as mapped
from tamma.config.fields import mask_password
from tamma.config.loader import Loaded, load
from tamma.config.reference import describe
from tamma.core.errors import TammaError
from tamma.core.redact import bounded
from tamma.ports.forge import Forge
from tamma.ports.system import ProcessLimits

_FREE_BYTES_MIN: Final = 1_000_000_000
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
    yield Check(part="configuration", state="ok", detail=str(loaded.path or "defaults and environment, no tamma.toml"))
    yield _tried("python", _python)
    yield _tried("state folder", lambda: _state(loaded))
    yield _tried("database", lambda: _database(loaded))
    forge: list[Forge] = []
    yield _tried("forge", lambda: _forge(loaded, forge))
    for name in [remote.name for remote in forge[0].repositories()] if forge else []:
        yield _tried(f"repository {name}", partial(_repository, loaded, forge[0], name))
        yield _tried(f"environment of {name}", partial(_environment, loaded, name))
        yield _tried(f"agent of {name}", partial(_agent, loaded, name))
        yield _tried(f"gates of {name}", partial(_gates, loaded, name))
    yield _tried("sandbox", lambda: _sandbox(loaded))


def _tried(part: str, look: Callable[[], Check | str]) -> Check:
    try:
        found = look()
    except TammaError as error:
        return Check(part=part, state="broken", detail=str(error), fix=error.fix)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return Check(
            part=part,
            state="broken",
            detail=str(error),
            fix="make room" if is_full else "check the path and its permissions",
        )
    return found if isinstance(found, Check) else Check(part=part, state="ok", detail=found)


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _state(loaded: Loaded) -> Check | str:
    folder = database.make_state_folder(loaded)
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        probe.write(b"x")
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES_MIN:
        return Check(
            part="state folder",
            state="warning",
            detail=f"{folder}: only {free >> 20} MiB free",
            fix="make room, or move state.folder",
        )
    return f"{folder}, {free >> 30} GiB free"


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
    return f"{kind}, schema current, its clock says {now:%Y-%m-%d %H:%M:%S} UTC"


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


def _repository(loaded: Loaded, forge: Forge, name: str) -> Check | str:
    remote = next(r for r in forge.repositories() if r.name == name)
    page = forge.open_issues(name, label=loaded.config.select.label.lower(), limit=loaded.config.limits.candidates_max)
    with tempfile.TemporaryDirectory() as scratch:
        base = parts.workspaces_in(loaded, Path(scratch)).fetch_base(remote)
    detail = f"base {base.branch} at {base.commit[:12]}, {len(page.issues)} issues ask for work"
    if page.malformed:
        worst = page.malformed[0]
        return Check(
            part=f"repository {name}",
            state="warning",
            detail=f"{detail}; {len(page.malformed)} unreadable, e.g. {worst.ref}: {worst.why}",
        )
    return detail


def _environment(loaded: Loaded, name: str) -> Check | str:
    setup = mapped.for_repository(loaded.config, name).environment.setup
    for argv in setup:
        if not _is_found(loaded, argv[0]):
            return Check(
                part=f"environment of {name}",
                state="broken",
                detail=f"{argv[0]} is not on PATH",
                fix="install it, or correct environment.setup",
            )
    return f"{len(setup)} commands prepare it" if setup else "none is needed"


def _is_found(loaded: Loaded, program: str) -> bool:
    """Whether it is on the search path; one that is filled in, or named by its place, is found when it is run."""
    return "{" in program or "/" in program or shutil.which(program, path=loaded.environ.get("PATH")) is not None


def _agent(loaded: Loaded, name: str) -> Check | str:
    settings = mapped.for_repository(loaded.config, name).agent
    agent = parts.agent(loaded, settings)
    if settings.argv and not _is_found(loaded, settings.argv[0]):
        return Check(
            part=f"agent of {name}",
            state="broken",
            detail=f"{settings.argv[0]} is not on PATH",
            fix="install it, or correct agent.argv",
        )
    return agent.name


def _gates(loaded: Loaded, name: str) -> Check | str:
    own = mapped.for_repository(loaded.config, name)
    if not own.gates:
        return Check(
            part=f"gates of {name}",
            state="warning",
            detail="none: every change that stays in its budget is delivered",
            fix="`tamma init` proposes some",
        )
    for gate in own.gates:
        program = gate.argv[0]
        if not _is_found(loaded, program):
            return Check(
                part=f"gates of {name}",
                state="broken",
                detail=f"{gate.name}: {program} is not on PATH",
                fix="install it, or prepare it in [environment]",
            )
    return ", ".join(gate.name for gate in own.gates)


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
