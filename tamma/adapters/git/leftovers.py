"""What tasks left in a state folder: checkouts of dead attempts, and commits that were kept until somebody decided."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tamma.adapters.git.command import Git, GitFailed
from tamma.adapters.git.gitdir import drop_traps
from tamma.adapters.proc.locks import take_now
from tamma.core.errors import ConfigError, TransientError
from tamma.core.ids import TaskId, parse_task_id

KEPT: Final = "refs/tamma/keep/"
# As `git gc --auto` judges it: packs, and loose objects by the fill of one of 256 folders.
_PACKS_MAX: Final = 50
_LOOSE_PER_FOLDER_MAX: Final = 27
_EXPIRY: Final = "2.weeks.ago"


def tasks_with_folders(workspaces: Path) -> set[TaskId]:
    """Whose attempts have, or had, a checkout here."""
    try:
        return _ids(entry.name for entry in workspaces.iterdir())
    except OSError:
        return set()


def tasks_with_commits(git: Git, mirrors: Path) -> set[TaskId]:
    """For whom a mirror keeps a commit."""
    return {task for mirror in mirrors.glob("*.git") for task in _kept_in(git.at(mirror), mirror)}


def release(git: Git, mirrors: Path, task_id: TaskId) -> None:
    """Keep the task's commit no longer; where another works on the mirror it stays a leftover, for the next time."""
    for mirror in mirrors.glob("*.git"):
        here = git.at(mirror)
        if task_id in _kept_in(here, mirror):
            with contextlib.suppress(GitFailed, OSError), mirror_lock(mirror) as lock:
                if take_now(lock):
                    here.run("update-ref", "-d", f"{KEPT}{task_id}")


@contextlib.contextmanager
def mirror_lock(mirror: Path) -> Iterator[int]:
    """What whoever writes to a mirror locks first: the descriptor, free again when it is closed."""
    fd = os.open(mirror.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def pack(mirror: Path, git: Git, *, workspaces: Path) -> None:
    """Join packs and loose objects where there are many; for whoever holds the mirror's lock. Trouble with it is no trouble.

    What nothing names any more goes after two weeks, but only while no checkout is here that may borrow it.
    """
    try:
        packs = sum(1 for _ in (mirror / "objects" / "pack").glob("*.pack"))
        loose = sum(1 for _ in (mirror / "objects" / "17").glob("*"))
        if packs <= _PACKS_MAX and loose <= _LOOSE_PER_FOLDER_MAX:
            return
        if tasks_with_folders(workspaces):
            git.run("repack", "-a", "-d", "-k", "-q")
        else:
            git.run("repack", "-A", "-d", "-q", f"--unpack-unreachable={_EXPIRY}")
            git.run("prune", f"--expire={_EXPIRY}")
    except (GitFailed, TransientError, OSError):
        return


def _kept_in(git: Git, mirror: Path) -> set[TaskId]:
    try:
        drop_traps(mirror / "refs")
        names = git.text("for-each-ref", "--format=%(refname)", KEPT).splitlines()
    except (GitFailed, OSError):
        return set()
    return _ids(name.removeprefix(KEPT) for name in names)


def _ids(names: Iterable[str]) -> set[TaskId]:
    found = set()
    for name in names:
        with contextlib.suppress(ConfigError, ValueError):
            found.add(parse_task_id(name))
    return found
