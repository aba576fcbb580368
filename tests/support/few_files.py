"""A process that may open only so many more files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def files_left(number: int) -> Iterator[None]:
    """No more than so many further files can be open at once in this process; the next one is EMFILE."""
    found = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(number + 1)]
    for fd in found:
        os.close(fd)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(found), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
