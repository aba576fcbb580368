"""Files that get their name only when all of them is on disk. A draft is locked for as long as its writer lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def draft_at(path: Path, *, like: str) -> Iterator[None]:
    """An empty file of one's own at ``path``, gone afterwards unless it was published. Those beside it whose name matches
    the pattern ``like`` and whose writer is dead go first. Raises OSError."""
    _sweep(path.parent, like)
    lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(lock)


def publish(path: Path, target: Path) -> None:
    """Give a draft its name, for good: content, name and folder are on disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())
    path.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """What was named in it outlives a loss of power."""
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(found)
    finally:
        os.close(found)


def _sweep(folder: Path, like: str) -> None:
    """Drafts whose writer is dead: nobody holds their lock."""
    for path in folder.glob(like):
        with suppress(FileNotFoundError):
            found = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                pass
            finally:
                os.close(found)
