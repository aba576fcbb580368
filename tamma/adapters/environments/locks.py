"""Advisory locks on files: they end with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tamma.ports.environment import SetupUnavailable

_POLL_SECONDS: Final = 0.1


@contextmanager
def shared(path: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Hold with others. Raises SetupUnavailable if the wait is ended by ``should_stop``."""
    with _held(path, fcntl.LOCK_SH, should_stop):
        yield


@contextmanager
def exclusive(path: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Hold alone. Raises SetupUnavailable if the wait is ended by ``should_stop``."""
    with _held(path, fcntl.LOCK_EX, should_stop):
        yield


@contextmanager
def exclusive_now(path: Path) -> Iterator[bool]:
    """Hold alone if that needs no wait; whether it is held."""
    fd = _open(path)
    try:
        yield _try(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


@contextmanager
def _held(path: Path, how: int, should_stop: Callable[[], bool]) -> Iterator[None]:
    fd = _open(path)
    try:
        while not _try(fd, how):
            if should_stop():
                raise stopped()
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def stopped() -> SetupUnavailable:
    """The error for a preparation that was asked to stop; whoever asked knows the real reason."""
    return SetupUnavailable("the preparation of the environment was stopped", why="the attempt is being stopped")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
