"""Reading a file that somebody else may have put there: only a regular one, never waiting for a FIFO's writer."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Opened for reading. Raises OSError, also for what is no regular file."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def read_regular(path: Path, *, bytes_max: int, follow: bool = True) -> bytes:
    """Up to one byte more than ``bytes_max``, so that the caller can tell. Raises OSError, also for what is no regular file."""
    with open_regular(path, follow=follow) as file:
        return file.read(bytes_max + 1)
