"""A folder of Markdown files that people edit and several processes write: read without following links, replaced whole.

A reader needs no lock, since a file is only ever renamed into place. A writer holds ``locked`` and re-reads first.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from tamma.adapters.forges.document import FILE_BYTES_MAX, BadDocument, Document, parse
from tamma.adapters.proc.locks import take
from tamma.core.errors import PASSING, PermanentError, TransientError

LOCK_WAIT_SECONDS: Final = 60.0
# Younger files are parsed again: two saves within one tick of the file system's clock look the same.
SETTLED_SECONDS: Final = 2.0
_SUFFIX: Final = ".md"
_REFUSED: Final = (errno.EACCES, errno.EPERM)

T = TypeVar("T")


class Stamp(NamedTuple):
    """What tells one version of a file from the next."""

    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int


class Moved(Exception):
    """Somebody who holds no lock (an editor) saved the file in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A file that could not be read; the sentence names the file and what to do. ``raw`` is what was read of it all the same,
    None where nothing could be; ``is_settled`` unless it was saved just now, perhaps not yet to its end."""

    why: str
    raw: bytes | None = b""
    is_settled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file's content and its version."""

    document: Document
    stamp: Stamp


class Folder(Generic[T]):
    """Files ``<name>.md`` directly in one folder, and a remembered extract of each.

    Whatever has another name (hidden, temporary, an editor's backup) is not there for us.
    """

    def __init__(self, path: Path, *, names: re.Pattern[str], extract: Callable[[Document], T]) -> None:
        self.path = path
        self._names = names
        self._extract = extract
        self._known: Mapping[str, tuple[Stamp, T | Trouble]] = {}

    def file(self, name: str) -> Path:
        """Where a name lies."""
        return self.path / f"{name}{_SUFFIX}"

    def names(self) -> list[str]:
        """Those there, in no order; none where the folder is not there yet."""
        with told_as_forge(self.path):
            try:
                found = os.listdir(self.path)  # noqa: PTH208 — names alone, ten thousand of them
            except FileNotFoundError:
                if not self.path.parent.is_dir():
                    raise
                return []
        stems = (name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))
        return [stem for stem in stems if self._names.fullmatch(stem)]

    def extracts(self) -> dict[str, T | Trouble]:
        """The extract of every file, from memory where the file is the same as before."""
        names = self.names()
        if not names:
            return {}
        known: dict[str, tuple[Stamp, T | Trouble]] = {}
        fresh: dict[str, T | Trouble] = {}
        with self._opened() as folder:
            for name in names:
                try:
                    stamp = _stamp(os.stat(name + _SUFFIX, dir_fd=folder, follow_symlinks=False))
                except FileNotFoundError:
                    continue
                old = self._known.get(name)
                value = old[1] if old is not None and old[0] == stamp else self._extracted(folder, name)
                if value is None:
                    continue
                fresh[name] = value
                if _age_seconds(stamp) > SETTLED_SECONDS:
                    known[name] = (stamp, value)
        self._known = known
        return fresh

    def read(self, name: str) -> Found | Trouble | None:
        """One file as it is now; None where there is none."""
        if not self._names.fullmatch(name) or not self.path.is_dir():
            return None
        with self._opened() as folder:
            return self._read(folder, name)

    def create(self, name: str, document: Document) -> bool:
        """Write a new file; False, and nothing written, if the name is taken. The caller holds the lock."""
        with told_as_forge(self.path):
            self.path.mkdir(exist_ok=True)
        with self._opened() as folder:
            written = self._write(folder, name, document, like=None)
            try:
                # A link, unlike a rename, never replaces what somebody without the lock put there.
                os.link(written, name + _SUFFIX, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                return False
            finally:
                os.unlink(written, dir_fd=folder)
            os.fsync(folder)
        return True

    def replace(self, name: str, document: Document, *, seen: Stamp) -> None:
        """Put another version in place of the one seen, mode and owner kept. Raises Moved. The caller holds the lock."""
        with self._opened() as folder:
            try:
                now = os.stat(name + _SUFFIX, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError as e:
                raise Moved from e
            written = self._write(folder, name, document, like=now)
            try:
                _expect(os.stat(name + _SUFFIX, dir_fd=folder, follow_symlinks=False), seen)
                os.rename(written, name + _SUFFIX, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(written, dir_fd=folder)
                raise
            os.fsync(folder)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with told_as_forge(self.path):
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield folder
            finally:
                os.close(folder)

    def _extracted(self, folder: int, name: str) -> T | Trouble | None:
        found = self._read(folder, name)
        if not isinstance(found, Found):
            return found
        try:
            return self._extract(found.document)
        except BadDocument as e:
            return replace(self.trouble(name, e, raw=found.document.raw), is_settled=_is_settled(found.stamp))

    def trouble(self, name: str, why: object, *, raw: bytes | None = b"") -> Trouble:
        """What is wrong with a file, with its path."""
        is_line = str(why).startswith("line ")
        return Trouble(why=f"{self.file(name)}, {why}" if is_line else f"{self.file(name)}: {why}", raw=raw)

    def _read(self, folder: int, name: str) -> Found | Trouble | None:
        try:
            # Not blocking: a FIFO of that name would otherwise hold us for ever.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name + _SUFFIX, flags, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as e:
            if e.errno in PASSING:
                raise
            is_link = e.errno == errno.ELOOP
            return self.trouble(
                name,
                "a symbolic link, which is not followed; put the file itself there" if is_link else _said(e),
                raw=b"" if is_link else None,
            )
        raw = None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return self.trouble(name, "not a regular file; remove it or put the text there", raw=b"")
            with os.fdopen(fd, "rb", closefd=False) as file:
                raw = file.read(FILE_BYTES_MAX + 1)
            if len(raw) > FILE_BYTES_MAX:
                return self.trouble(name, f"larger than {FILE_BYTES_MAX} bytes; shorten it", raw=raw)
            return Found(document=parse(raw), stamp=_stamp(status))
        except BadDocument as e:
            return replace(self.trouble(name, e, raw=raw), is_settled=_is_settled(_stamp(status)))
        except OSError as e:
            if e.errno in PASSING:
                raise
            return self.trouble(name, _said(e), raw=raw)
        finally:
            os.close(fd)

    def _write(self, folder: int, name: str, document: Document, *, like: os.stat_result | None) -> str:
        raw = document.raw
        if len(raw) > FILE_BYTES_MAX:
            raise PermanentError(
                f"{self.file(name)} would pass {FILE_BYTES_MAX} bytes",
                why="a larger file could not be read again",
                fix="shorten the file by hand",
            )
        # One name per file: what a killed writer left is replaced by the next one, which holds the lock.
        temporary = f".{name}.tamma-tmp"
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(raw)
                file.flush()
                if like is not None:
                    _resemble(fd, like)
                os.fsync(fd)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
        return temporary


@contextmanager
def locked(path: Path, *, wait_seconds: float = LOCK_WAIT_SECONDS) -> Iterator[None]:
    """Only one thread of one process holds the lock on ``path``; the system frees it when a holder dies.

    Raises TransientError when somebody holds it for too long.
    """
    with told_as_forge(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        if not take(fd, seconds=wait_seconds):
            raise TransientError(
                f"{path} is held by another process",
                why=f"it was not free for {wait_seconds:g} s",
                fix="try again later",
            )
        yield
    finally:
        os.close(fd)


@contextmanager
def told_as_forge(path: Path) -> Iterator[None]:
    """What the file system refuses, in the words of the port: a forge that is away, or one that a human must repair."""
    try:
        yield
    except OSError as e:
        if e.errno in _REFUSED:
            raise PermanentError(
                f"cannot use {path}", why=_said(e), fix="give Tamma's user the right to read and write there"
            ) from e
        raise TransientError(
            f"cannot use {path}", why=_said(e), fix="check that the folder is there and not full"
        ) from e


def _resemble(fd: int, like: os.stat_result) -> None:
    # A person whose file Tamma rewrote as root must still be able to save it.
    with suppress(PermissionError):
        os.fchown(fd, like.st_uid, like.st_gid)
    os.fchmod(fd, stat.S_IMODE(like.st_mode))


def _expect(status: os.stat_result, seen: Stamp) -> None:
    if _stamp(status) != seen:
        raise Moved


def _said(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _age_seconds(stamp: Stamp) -> float:
    return datetime.now(UTC).timestamp() - max(stamp.modified_ns, stamp.changed_ns) / 1e9


def _is_settled(stamp: Stamp) -> bool:
    # One from the future is not being written now either.
    return abs(_age_seconds(stamp)) > SETTLED_SECONDS


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
