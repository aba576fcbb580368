"""The report file of a gate: removed before the run, read after it without following a link out of the checkout.

The gate runs the change's own code, which may put a link, a pipe or a folder where the report should be.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tamma.core.errors import PASSING
from tamma.core.junit import BYTES_MAX, ReportUnreadable
from tamma.core.paths import inside

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe in the report's place would hold the worker for ever.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ReportPath:
    """A report's place, relative to the checkout."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join(self.parts)

    @classmethod
    def parse(cls, text: str) -> ReportPath:
        """Raises ReportUnreadable for a path that would leave the checkout."""
        parts = inside(text)
        if not parts:
            raise ReportUnreadable(f"the report path {text!r} is not inside the checkout")
        return cls(parts)


def prepare_report(folder: Path, place: ReportPath, *, with_folder: bool) -> None:
    """Remove what is at the report's place, so that a stale or planted report is never read.

    ``with_folder``: the folder that holds it is ours as well, and is made new. Raises ReportUnreadable if a link is in the way.
    """
    top = folder / place.parts[0]
    if with_folder:
        _remove(top)
        top.mkdir(mode=0o700)
        return
    try:
        with _parent(folder, place) as parent:
            _remove(folder.joinpath(*place.parts))
            assert parent >= 0
    except FileNotFoundError:
        return


def read_report(folder: Path, place: ReportPath) -> bytes | None:
    """The report's bytes; None if there is none. Raises ReportUnreadable for anything but a regular file of bounded size, OSError
    where the machine is short of something."""
    try:
        with _parent(folder, place) as parent:
            fd = os.open(place.parts[-1], _FILE, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as e:
        if e.errno in PASSING:
            raise
        raise ReportUnreadable(f"{place} is not a regular file ({e.strerror})") from e
    try:
        return _read_all(fd, place)
    finally:
        os.close(fd)


def _read_all(fd: int, place: ReportPath) -> bytes:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ReportUnreadable(f"{place} is not a regular file")
    data = bytearray()
    while chunk := os.read(fd, _CHUNK):
        data += chunk
        if len(data) > BYTES_MAX:
            raise ReportUnreadable(f"{place} is larger than {BYTES_MAX} bytes")
    return bytes(data)


@contextmanager
def _parent(folder: Path, place: ReportPath) -> Iterator[int]:
    """The folder that holds the report, reached without following a link below the checkout."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in place.parts[:-1]:
            try:
                inner = os.open(part, _FOLDER, dir_fd=fd)
            except NotADirectoryError as e:
                raise ReportUnreadable(f"{place} leads through a link or a file") from e
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
