"""Named places where a test makes the process die, stop or raise."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from tamma.core.errors import ConfigError


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
}


class NamedFailPoints:
    """Acts at the places named in ``spec``: place -> ``action`` or ``action@N`` (only the N-th time it is reached).

    ``kill``, ``stop`` and ``term`` signal this process; ``exit`` ends it with 1 and no clean-up; ``raise`` raises
    RuntimeError, ``full`` and ``denied`` what a disk without space and a folder without permission do; ``orphan`` kills its
    parent; ``cut`` ends all its connections. Raises ConfigError for anything else.
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
            ACTIONS[action]()


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


def _parse(name: str, text: str) -> tuple[str, int | None]:
    action, mark, nth = text.partition("@")
    if action not in ACTIONS:
        raise _bad(f"{name}={text}", f"{action!r} is not one of {', '.join(ACTIONS)}")
    if mark and (not nth.isdecimal() or int(nth) < 1):
        raise _bad(f"{name}={text}", f"{nth!r} is not a count from 1")
    return action, int(nth) if mark else None


def _bad(text: str, why: str) -> ConfigError:
    return ConfigError(f"{text!r} is not a fail point", why=why, fix="write for example push.after_effect=kill@2")
