"""Advisory locks on files: they end with the process that holds them, however it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tamma.adapters.proc.locks import EXCLUSIVE, SHARED, take, take_now
from tamma.ports.environment import SetupUnavailable


@contextmanager
def shared(path: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Hold with others. Raises SetupUnavailable if the wait is ended by ``should_stop``."""
    with _held(path, SHARED, should_stop):
        yield


@contextmanager
def exclusive(path: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Hold alone. Raises SetupUnavailable if the wait is ended by ``should_stop``."""
    with _held(path, EXCLUSIVE, should_stop):
        yield


@contextmanager
def exclusive_now(path: Path) -> Iterator[bool]:
    """Hold alone if that needs no wait; whether it is held."""
    fd = _open(path)
    try:
        yield take_now(fd)
    finally:
        os.close(fd)


@contextmanager
def _held(path: Path, how: int, should_stop: Callable[[], bool]) -> Iterator[None]:
    fd = _open(path)
    try:
        if not take(fd, how, should_stop=should_stop):
            raise stopped()
        yield
    finally:
        os.close(fd)


def stopped() -> SetupUnavailable:
    """The error for a preparation that was asked to stop; whoever asked knows the real reason."""
    return SetupUnavailable("the preparation of the environment was stopped", why="the attempt is being stopped")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
