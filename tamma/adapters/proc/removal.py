"""Removal that cannot leave its root: every step is relative to an open descriptor and follows no link."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

_DEPTH_MAX: Final = 48
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def remove_tree(target: Path, *, root: Path) -> bool:
    """Remove ``target``, which must lie below ``root``; whether it is gone. A link is removed as a link.

    Folders without permissions are opened up on the way. What belongs to somebody else stays, and the answer is False.
    """
    parent = target.parent.resolve()
    if not parent.is_relative_to(root.resolve()) or target.name in {"", ".", ".."}:
        raise ValueError(f"{target} is not below {root}")
    try:
        fd = os.open(parent, _OPEN)
    except OSError:
        return not target.exists()
    try:
        _remove_entry(fd, target.name)
    finally:
        os.close(fd)
    return not os.path.lexists(target)


def _remove_entry(parent: int, name: str) -> None:
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        fd = _open_dir(parent, name)
        try:
            while _empty(fd, top=fd, depth=0):
                pass
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)


def _empty(fd: int, *, top: int, depth: int) -> bool:
    """Empty a folder; True where folders too deep to follow were moved up to ``top``, which then needs another pass."""
    moved = False
    with os.scandir(fd) as found:
        names = [(e.name, e.is_dir(follow_symlinks=False)) for e in found]
    for name, is_dir in names:
        with contextlib.suppress(OSError):
            if not is_dir:
                os.unlink(name, dir_fd=fd)
                continue
            child = _open_dir(fd, name)
            try:
                if depth >= _DEPTH_MAX:
                    os.rename(name, f"deep-{secrets.token_hex(8)}", src_dir_fd=fd, dst_dir_fd=top)
                    moved = True
                    continue
                moved |= _empty(child, top=top, depth=depth + 1)
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=fd)
    return moved


def _open_dir(parent: int, name: str) -> int:
    """Open a folder for emptying, giving ourselves the permission first; never through a link."""
    if hasattr(os, "O_PATH"):
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if os.fstat(handle).st_mode & 0o700 != 0o700:
                Path(f"/proc/self/fd/{handle}").chmod(0o700)
        finally:
            os.close(handle)
    else:
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
    return os.open(name, _OPEN, dir_fd=parent)
