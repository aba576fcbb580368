"""Our own walk over a tree that an agent wrote: no git, no link followed, nothing opened that is not a regular file."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from tamma.adapters.git.audit import is_git_dir, link_trouble, modules_trouble, name_trouble, show
from tamma.core.errors import PASSING

DEFAULT_EXCLUDES: Final = (
    "__pycache__", "*.pyc", "*.pyo", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox",
    ".venv", "*.egg-info", ".eggs", ".coverage", "node_modules", ".DS_Store", "Thumbs.db",
)  # fmt: skip
GITLINK: Final = "160000"
_LINK: Final = "120000"
_DEPTH_MAX: Final = 100
_CHUNK: Final = 1 << 20
_DIR: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

Ignored = Callable[[Sequence[bytes], Sequence[bytes]], set[bytes]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree."""

    mode: str
    oid: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may be read."""

    entries_max: int
    file_bytes_max: int
    changed_bytes_max: int


@dataclass(slots=True)
class Findings:
    """What a walk saw. ``contents`` holds the bytes of blobs that the base does not have; ``refused`` the paths that
    stand as they do in the base because they cannot be taken."""

    entries: dict[bytes, Entry] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    refused: set[bytes] = field(default_factory=set)
    is_complete: bool = True


class Walk:
    """One walk over one tree, compared with the base it was made from."""

    def __init__(
        self, root: Path, *, base: Mapping[bytes, Entry], excludes: Sequence[str], ignored: Ignored, bounds: Bounds
    ) -> None:
        self._base = base
        self._base_dirs = {path[:n] for path in base for n, byte in enumerate(path) if byte == 0x2F}
        self._excludes = tuple(os.fsencode(pattern) for pattern in excludes)
        self._ignored = ignored
        self._bounds = bounds
        self._root = root
        self._seen = 0
        self._bytes = 0
        self._algorithm = "sha256" if any(len(e.oid) == 64 for e in base.values()) else "sha1"
        self._found = Findings()

    def run(self) -> Findings:
        """Level by level, so that git's ignore rules are asked once per level and ignored folders are never entered."""
        level = [b""]
        for _ in range(_DEPTH_MAX):
            if not level or not self._found.is_complete:
                return self._found
            level = self._walk_level(level)
        for folder in level:
            self._refuse(folder, f"is nested deeper than {_DEPTH_MAX} folders")
        return self._found

    def _walk_level(self, level: list[bytes]) -> list[bytes]:
        tracked_dirs: list[bytes] = []
        new_dirs: list[bytes] = []
        tracked: list[bytes] = []
        new: list[bytes] = []
        for folder in level:
            for name, is_dir in self._list(folder):
                path = folder + b"/" + name if folder else name
                if is_dir:
                    (tracked_dirs if path in self._base_dirs else new_dirs).append(path)
                else:
                    (tracked if path in self._base else new).append(path)
        new_dirs = [path for path in new_dirs if not self._is_gitlink(path)]
        ignored = self._ignored(new_dirs, new) if new_dirs or new else set()
        for path in tracked:
            self._take(path)
        for path in new:
            if path not in ignored and not self._has_odd_name(path):
                self._take(path)
        return tracked_dirs + [p for p in new_dirs if p not in ignored and not self._has_odd_name(p)]

    def _list(self, folder: bytes) -> list[tuple[bytes, bool]]:
        """Names in a folder that matter, with whether each is a folder. Odd new names are dropped with a refusal."""
        try:
            fd = open_beneath(self._root, folder)
        except OSError as e:
            if e.errno in PASSING:  # that is the machine's trouble, and no fault of the change
                raise
            self._refuse(folder, f"cannot be read ({e.strerror})")
            return []
        listed = []
        try:
            with os.scandir(fd) as found:
                for item in found:
                    name = os.fsencode(item.name)
                    self._seen += 1
                    if self._seen > self._bounds.entries_max:
                        self._give_up()
                        break
                    path = folder + b"/" + name if folder else name
                    if not is_git_dir(name) and not self._is_excluded(path, name):
                        listed.append((name, item.is_dir(follow_symlinks=False)))
        finally:
            os.close(fd)
        return sorted(listed)

    def _give_up(self) -> None:
        if self._found.is_complete:
            self._found.refusals.append(f"the workspace holds more than {self._bounds.entries_max} entries")
        self._found.is_complete = False

    def _is_excluded(self, path: bytes, name: bytes) -> bool:
        if path in self._base or path in self._base_dirs:
            return False
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._excludes)

    def _is_gitlink(self, path: bytes) -> bool:
        """A submodule's folder stays what the base says; an unborn one must be empty, since nothing in it is delivered."""
        entry = self._base.get(path)
        if entry is None or entry.mode != GITLINK:
            return False
        names = {name for name, _ in self._raw_names(path)}
        if names and not any(is_git_dir(name) for name in names):
            self._refuse(path, "is a submodule's place; files in it cannot be delivered")
        return True

    def _raw_names(self, folder: bytes) -> list[tuple[bytes, bool]]:
        fd = open_beneath(self._root, folder)
        try:
            with os.scandir(fd) as found:
                return [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in found]
        finally:
            os.close(fd)

    def _has_odd_name(self, path: bytes) -> bool:
        trouble = name_trouble(path.rsplit(b"/", 1)[-1])
        if trouble is not None:
            self._refuse(path, trouble)
        return trouble is not None

    def _refuse(self, path: bytes, why: str) -> None:
        self._found.refused.add(path)
        self._found.refusals.append(f"{show(path) or 'the workspace'} {why}")

    def _take(self, path: bytes) -> None:
        folder, _, name = path.rpartition(b"/")
        try:
            fd = open_beneath(self._root, folder)
            try:
                self._take_at(fd, name, path)
            finally:
                os.close(fd)
        except OSError as e:
            if e.errno in PASSING:  # that is the machine's trouble, and no fault of the change
                raise
            self._refuse(path, f"cannot be read ({e.strerror})")

    def _take_at(self, fd: int, name: bytes, path: bytes) -> None:
        status = os.lstat(name, dir_fd=fd)
        before = self._base.get(path)
        if before is not None and before.mode == GITLINK:
            self._refuse(path, "takes a submodule's place")
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=fd)
            entry = Entry(_LINK, self._hash(target), len(target))
            if before != entry and (trouble := link_trouble(path, target)):
                self._refuse(path, trouble)
                return
            self._record(path, entry, target)
        elif stat.S_ISREG(status.st_mode):
            self._take_file(fd, name, path)
        else:
            self._refuse(path, "is a pipe, socket or device")

    def _take_file(self, fd: int, name: bytes, path: bytes) -> None:
        handle = os.open(name, _FILE, dir_fd=fd)
        with os.fdopen(handle, "rb", buffering=0) as stream:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                self._refuse(path, "is a pipe, socket or device")
                return
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                self._refuse(path, "is set to run as another user (setuid or setgid)")
                return
            mode = "100755" if status.st_mode & stat.S_IXUSR else "100644"
            if status.st_size > self._bounds.file_bytes_max:
                self._take_big(stream, path, mode=mode, size=status.st_size)
                return
            content = _read(stream, self._bounds.file_bytes_max + 1)
        if len(content) > self._bounds.file_bytes_max:
            self._refuse(path, "grew while it was read")
            return
        if path.rsplit(b"/", 1)[-1] == b".gitmodules":
            trouble = modules_trouble(content)
            if trouble and self._hash(content) != getattr(self._base.get(path), "oid", None):
                self._refuse(path, trouble)
                return
        self._record(path, Entry(mode, self._hash(content), len(content)), content)

    def _take_big(self, stream: BinaryIO, path: bytes, *, mode: str, size: int) -> None:
        """A big file may stay if it is the base's own; otherwise it is refused without another look."""
        before = self._base.get(path)
        if before is not None and before.size == size:
            digest = hashlib.new(self._algorithm, b"blob %d\0" % size, usedforsecurity=False)
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
            if digest.hexdigest() == before.oid:
                self._found.entries[path] = Entry(mode, before.oid, size)
                return
        self._refuse(path, f"has {size} bytes; a changed file may have {self._bounds.file_bytes_max}")

    def _record(self, path: bytes, entry: Entry, content: bytes) -> None:
        before = self._base.get(path)
        if before is None or before.oid != entry.oid:
            self._bytes += entry.size
            if self._bytes > self._bounds.changed_bytes_max:
                if self._bytes - entry.size <= self._bounds.changed_bytes_max:
                    self._found.refusals.append(
                        f"the changed files hold more than {self._bounds.changed_bytes_max} bytes"
                    )
                self._found.refused.add(path)
                return
            self._found.contents[entry.oid] = content
        self._found.entries[path] = entry

    def _hash(self, content: bytes) -> str:
        digest = hashlib.new(self._algorithm, b"blob %d\0" % len(content), usedforsecurity=False)
        digest.update(content)
        return digest.hexdigest()


def open_beneath(root: Path, folder: bytes) -> int:
    """Open a folder below ``root``, component by component, so that no link on the way is followed."""
    fd = os.open(root, _DIR)
    for part in folder.split(b"/") if folder else []:
        try:
            deeper = os.open(part, _DIR, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _read(stream: BinaryIO, bytes_max: int) -> bytes:
    parts, total = [], 0
    while total < bytes_max and (chunk := stream.read(bytes_max - total)):
        parts.append(chunk)
        total += len(chunk)
    return b"".join(parts)
