"""What can be made to happen at a fail point: to this process, or as what a disk or a forge answers it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from tamma.core.errors import TransientError


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _exit() -> None:
    os._exit(1)


def _raise() -> None:
    raise RuntimeError("a fail point was reached")


def _orphan() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def _cut() -> None:
    """Every connection of this process ends, as if a cable was pulled: database, forge, whatever it is."""
    for entry in Path("/dev/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as end:
            if end.type == socket.SOCK_STREAM:
                end.shutdown(socket.SHUT_RDWR)


def _refuse(number: int) -> None:
    raise OSError(number, os.strerror(number), "/some/place")


def _away() -> None:
    raise TransientError("the forge is away", why="503 Service Unavailable", fix="try again later")


def _busy(seconds: float) -> None:
    raise TransientError(
        "the forge wants to be left alone",
        why=f"429 Too Many Requests, Retry-After: {seconds:g}",
        fix="try again later",
        retry_after=timedelta(seconds=seconds),
    )


def _garbage() -> None:
    raise TransientError("the forge answered what cannot be understood", why="it is not JSON", fix="try again later")


def _hang(seconds: float) -> None:
    time.sleep(seconds)
    raise TransientError("the forge did not answer", why=f"not within {seconds:g} s", fix="try again later")


ACTIONS: Final[Mapping[str, Callable[[], None]]] = {
    "kill": _kill,
    "stop": _stop,
    "term": _term,
    "exit": _exit,
    "raise": _raise,
    "full": partial(_refuse, errno.ENOSPC),
    "denied": partial(_refuse, errno.EACCES),
    "orphan": _orphan,
    "cut": _cut,
    "away": _away,
    "garbage": _garbage,
}
# What is done to the loop that started this process, if one did.
TO_THE_LOOP: Final = frozenset({_orphan})
TIMED: Final[Mapping[str, Callable[[float], None]]] = {"busy": _busy, "hang": _hang}
