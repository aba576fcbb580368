"""Named places where a test makes the process die, stop or raise."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from tamma.core.errors import ConfigError, TransientError


class NoFailPoints:
    """Nothing ever happens."""

    def reach(self, name: str) -> None:
        """Go on."""


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
TIMED: Final[Mapping[str, Callable[[float], None]]] = {"busy": _busy, "hang": _hang}


class NamedFailPoints:
    """Acts at the places named in ``spec``: place -> ``action`` or ``action@N`` (only the N-th time it is reached); ``action:S``
    for those that take seconds.

    ``kill``, ``stop`` and ``term`` signal this process; ``exit`` ends it with 1 and no clean-up; ``raise`` raises
    RuntimeError, ``full`` and ``denied`` what a disk without space and a folder without permission do; ``orphan`` kills its
    parent; ``cut`` ends all its connections. What a forge may do: ``away`` and ``garbage`` raise TransientError, ``busy:S`` does
    and asks for so many seconds, ``hang:S`` does after so many. Raises ConfigError for anything else.
    """

    def __init__(self, spec: Mapping[str, str]) -> None:
        self._wanted = {name: _parse(name, text) for name, text in spec.items()}
        self._reached: dict[str, int] = {}
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Do what was asked for at this place, if anything."""
        if name not in self._wanted:
            return
        with self._lock:
            self._reached[name] = count = self._reached.get(name, 0) + 1
        action, nth = self._wanted[name]
        if nth is None or count == nth:
            action()


def parse_fail_points(text: str) -> Mapping[str, str]:
    """``place=action[@N]`` pairs with commas in between. Raises ConfigError."""
    spec: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, mark, action = part.partition("=")
        if not mark or not name.strip():
            raise _bad(part, "it is not place=action")
        _parse(name.strip(), action.strip())
        spec[name.strip()] = action.strip()
    return spec


def _parse(name: str, text: str) -> tuple[Callable[[], None], int | None]:
    action, mark, nth = text.partition("@")
    if mark and (not nth.isdecimal() or int(nth) < 1):
        raise _bad(f"{name}={text}", f"{nth!r} is not a count from 1")
    word, timed, seconds = action.partition(":")
    if timed and word in TIMED and seconds.replace(".", "", 1).isdecimal():
        return partial(TIMED[word], float(seconds)), int(nth) if mark else None
    if action not in ACTIONS:
        names = (*ACTIONS, *(f"{timed}:SECONDS" for timed in TIMED))
        raise _bad(f"{name}={text}", f"{action!r} is not one of {', '.join(names)}")
    return ACTIONS[action], int(nth) if mark else None


def _bad(text: str, why: str) -> ConfigError:
    return ConfigError(f"{text!r} is not a fail point", why=why, fix="write for example push.after_effect=kill@2")
