"""What an environment was when it was built: closed to writing, and compared before each use.

Agents and gates of every task read the same folder. A file that one of them changed would run in all later ones, so a mode
without ``w`` is not enough: it holds back neither root nor who sets it again. The stamp tells by size, times and mode; the
time of the last change of an inode cannot be set by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from tamma.adapters.proc.regular import read_regular
from tamma.adapters.proc.removal import remove_tree

Entry: TypeAlias = list[str | int]

_FORMAT: Final = 1
_BYTES_MAX: Final = 512 * 1024 * 1024
_WRITE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def seal(folder: Path, stamp: Path) -> None:
    """Close a folder that is ready to writing, let it share no file with anything outside, and write down what it is."""
    _unshare(folder)
    for path, status in _walk(folder):
        if not stat.S_ISLNK(status.st_mode):
            with contextlib.suppress(OSError):  # somebody else's: the stamp holds all the same
                path.chmod(stat.S_IMODE(status.st_mode) & ~_WRITE)
    stamp.write_text(json.dumps({"format": _FORMAT, "entries": _entries(folder)}))


def is_sound(folder: Path, stamp: Path) -> bool:
    """Whether the folder is what its stamp says, once all that was added to it is removed.

    Bytecode in ``__pycache__`` is made anew by Python: a file of it that was changed is removed, and may be missing.
    """
    try:
        value = json.loads(read_regular(stamp, bytes_max=_BYTES_MAX))
        known: Mapping[str, Entry] = value["entries"] if value["format"] == _FORMAT else {}
        found = _entries(folder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    if not isinstance(known, dict) or "." not in known:
        return False
    other = {path for path in found if found[path] != known.get(path)}
    if any(path in known and not _is_bytecode(path) for path in other):
        return False
    if any(path not in found and not _is_bytecode(path) for path in known):
        return False
    return all(_remove(folder / path, below=folder) for path in sorted(other))


def _entries(folder: Path) -> dict[str, Entry]:
    start = len(str(folder)) + 1
    return {str(path)[start:] or ".": _entry(path, status) for path, status in _walk(folder)}


def _entry(path: Path, status: os.stat_result) -> Entry:
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        return ["link", str(path.readlink())]
    if stat.S_ISREG(mode):
        return ["file", mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return ["other", mode]  # a folder's times change with what is added and removed again


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    yield folder, folder.lstat()
    todo = [str(folder)]
    while todo:
        with contextlib.suppress(PermissionError), os.scandir(todo.pop()) as listed:
            for entry in listed:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _unshare(folder: Path) -> None:
    """Installers link files from a cache of theirs: writing here would change that cache, and the other way about."""
    shared: dict[int, list[Path]] = {}
    links: dict[int, int] = {}
    for path, status in _walk(folder):
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            shared.setdefault(status.st_ino, []).append(path)
            links[status.st_ino] = status.st_nlink
    for inode, (first, *others) in shared.items():
        if links[inode] > 1 + len(others):
            own = _beside(first)
            shutil.copy2(first, own)
            own.replace(first)
            for other in others:
                own = _beside(other)
                own.hardlink_to(first)
                own.replace(other)


def _beside(path: Path) -> Path:
    return path.parent / f".tamma-{secrets.token_hex(8)}"


def _is_bytecode(path: str) -> bool:
    return path.endswith(".pyc") and Path(path).parent.name == "__pycache__"


def _remove(path: Path, *, below: Path) -> bool:
    """Whether it is gone; its folder is closed to writing, which holds unless we are root."""
    if not os.path.lexists(path) or remove_tree(path, root=below):
        return True
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    with contextlib.suppress(OSError):
        path.parent.chmod(mode | stat.S_IWUSR)
        try:
            return remove_tree(path, root=below)
        finally:
            path.parent.chmod(mode)
    return False
