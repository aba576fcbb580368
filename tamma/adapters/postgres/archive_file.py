"""The file of an archive: gzip over JSON lines, one event each. It gets its name only when all of it is on disk."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from tamma.adapters.postgres.drafts import draft_at, publish, sync_folder
from tamma.adapters.proc.regular import open_regular
from tamma.core.errors import ConfigError, of_os_error

# Where a process may die; not in engine.failpoints, since no attempt comes by.
ARCHIVE_POINTS: Final = frozenset(
    {"archive.before_file", "archive.after_file", "archive.after_name", "archive.after_record"}
)
_DRAFT: Final = ".tamma-archive-{}.part"
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a draft holds."""

    lines: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A file that has no name yet that anybody would believe."""

    path: Path

    def write(self, lines: Iterable[str]) -> Written:
        """Every line, down to the disk. The same lines make the same bytes."""
        count = 0
        with self.path.open("wb") as raw:
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
                for line in lines:
                    packed.write(line.encode() + b"\n")
                    count += 1
            raw.flush()
            os.fsync(raw.fileno())
        return Written(lines=count, sha256=digest(self.path))

    def publish(self, name: str) -> None:
        """Give it its name, for good."""
        publish(self.path, self.path.with_name(name))


def name_of(archive: int, sha256: str) -> str:
    """The name holds the content's digest: no other content ever replaces it, whatever becomes of the numbers."""
    return f"tamma-archive-{archive:06}-{sha256[:16]}.jsonl.gz"


@contextmanager
def drafted(folder: Path) -> Iterator[Draft]:
    """A draft in ``folder``, made if need be; gone afterwards unless it was published. What killed runs left goes first.

    Raises ConfigError where the folder or the file cannot be written, TransientError where the disk is full.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
            sync_folder(folder.parent)
        path = folder / _DRAFT.format(uuid4().hex)
        with draft_at(path, like=_DRAFT.format("*")):
            yield Draft(path=path)
    except OSError as error:
        known = of_os_error(error, doing=f"writing an archive to {folder}")
        raise known or ConfigError(
            f"no archive can be written to {folder}", why=str(error), fix="name a folder that Tamma's user may write to"
        ) from error


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Raises OSError, also for what is no regular file."""
    with open_regular(path) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def lines_of(path: Path) -> list[str]:
    """The lines. Raises OSError, EOFError or ValueError for what is no such file."""
    import zlib

    try:
        with open_regular(path) as file, gzip.open(file, "rt", encoding="utf-8", newline="\n") as source:
            return source.read().removesuffix("\n").split("\n")  # not splitlines: texts may hold other ends of lines
    except zlib.error as error:
        raise ValueError(str(error)) from error
