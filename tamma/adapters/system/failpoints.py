"""Named places where a test makes the process die, stop or raise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

from tamma.adapters.system.mishaps import ACTIONS, TIMED, TO_THE_LOOP
from tamma.core.errors import ConfigError


class NoFailPoints:
    """Nothing ever happens."""

    def reach(self, name: str) -> None:
        """Go on."""


class NamedFailPoints:
    """Acts at the places named in ``spec``: place -> ``action`` or ``action@N`` (only the N-th time it is reached); ``action:S``
    for those that take seconds.

    ``kill``, ``stop`` and ``term`` signal this process; ``exit`` ends it with 1 and no clean-up; ``raise`` raises
    RuntimeError, ``full`` and ``denied`` what a disk without space and a folder without permission do; ``orphan`` kills the
    loop that started this worker, and does nothing where none did (``is_dispatched``); ``cut`` ends all its connections. What a
    forge may do: ``away`` and ``garbage`` raise TransientError, ``busy:S`` does and asks for so many seconds, ``hang:S`` does after
    so many. Raises ConfigError for anything else.
    """

    def __init__(self, spec: Mapping[str, str], *, is_dispatched: bool = False) -> None:
        wanted = {name: _parse(name, text) for name, text in spec.items()}
        self._wanted = {n: w for n, w in wanted.items() if is_dispatched or w[0] not in TO_THE_LOOP}
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
