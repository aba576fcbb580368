"""Reading a file that somebody else may have put there: only a regular one, never waiting for a FIFO's writer."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, *, bytes_max: int, follow: bool = True) -> bytes:
    """Up to one byte more than ``bytes_max``, so that the caller can tell. Raises OSError, also for what is no regular file."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(bytes_max + 1)
