"""A disk of a few megabytes that a test can fill and free."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_CHUNK = b"\0" * 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A file system of its own at ``folder``."""

    folder: Path

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """Not one byte more."""
        with (self.folder / "ballast").open("ab", buffering=0) as file:
            chunk = _CHUNK
            while chunk:
                try:
                    file.write(chunk)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    chunk = chunk[: len(chunk) // 2]

    def free(self) -> None:
        """As before it was filled."""
        (self.folder / "ballast").unlink()


@contextmanager
def a_small_disk(folder: Path, *, megabytes: int) -> Iterator[SmallDisk]:
    """Mounted at ``folder`` for as long as the block; without the right to mount the test is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a disk of its own cannot be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder=folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
