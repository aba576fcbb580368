"""The private folders of boxes (HOME, TMPDIR): held by a lock that dies with the worker, so that the next one knows whose are left.

Names are short: sockets in a TMPDIR must fit into 108 bytes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from tamma.adapters.proc.locks import take, take_now
from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import PermanentError, of_os_error

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WAIT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Private:
    """One of them, open as long as its box."""

    folder: Path
    lock: int

    def remove(self) -> None:
        """With all that is in it, folders without permissions included."""
        remove_tree(self.folder, root=self.folder.parent)
        os.close(self.lock)


def make_private(root: Path | None, tag: str) -> Private:
    """A new one for a tag, below ``root``; where there is none, or it is not ours alone, in the system's place for such things."""
    try:
        with _held(root) as is_ours:
            if root is not None and is_ours:
                _remove_left(root, tag)
                return _locked(Path(tempfile.mkdtemp(prefix=_prefix(tag), dir=root)))
        return _locked(Path(tempfile.mkdtemp(prefix="tamma-box-")))
    except OSError as e:
        told = of_os_error(e, doing="making a folder for a box")
        raise told or PermanentError("no folder can be made for a box", why=str(e), fix="set TMPDIR") from e


def sweep_private(root: Path | None, tag: str | None = None) -> None:
    """Remove what dead workers left of a task's boxes; of any task's where none is named."""
    with contextlib.suppress(OSError), _held(root) as is_ours:
        if root is not None and is_ours:
            _remove_left(root, tag)


def _remove_left(root: Path, tag: str | None) -> None:
    for left in root.glob("*" if tag is None else f"{_prefix(tag)}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, _OPEN)
            try:
                if take_now(descriptor):
                    remove_tree(left, root=root)
            finally:
                os.close(descriptor)


def _prefix(tag: str) -> str:
    """The same for every run of a task, whatever the task's name is made of."""
    return sha256(tag.partition(":")[0].encode()).hexdigest()[:10] + "-"


def _locked(folder: Path) -> Private:
    descriptor = os.open(folder, _OPEN)
    take(descriptor)
    return Private(folder, descriptor)


@contextlib.contextmanager
def _held(root: Path | None) -> Iterator[bool]:
    """Whether ``root`` is a folder of this user alone; nobody else makes or removes there meanwhile."""
    if root is None:
        yield False
        return
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700, parents=True)
    try:
        descriptor = os.open(root, _OPEN)
    except OSError:
        yield False
        return
    try:
        found = os.fstat(descriptor)
        is_free = take(descriptor, seconds=_WAIT_SECONDS)
        yield is_free and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    finally:
        os.close(descriptor)
