"""Whoever keeps the loop running, told by the protocol of sd_notify(3): a datagram per word, to the socket it named."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

_SHARE = 3  # signs of life in each watchdog interval; sd_watchdog_enabled(3) asks for two


class Unsupervised:
    """Nobody."""

    def ready(self) -> None:
        """Go on."""

    def alive(self) -> None:
        """Go on."""

    def stopping(self) -> None:
        """Go on."""


class SystemdSupervisor:
    """systemd, or what speaks its protocol. A word that does not arrive is nobody's trouble."""

    def __init__(self, address: str, *, watchdog: timedelta | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._pause = watchdog.total_seconds() / _SHARE if watchdog else None
        self._said_at = 0.0

    def ready(self) -> None:
        """Started: what waits for us may go on."""
        self._say("READY=1")

    def alive(self) -> None:
        """A sign of life, as often as the watchdog wants it and no more."""
        now = time.monotonic()
        if self._pause is not None and now - self._said_at >= self._pause:
            self._said_at = now
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """On the way out."""
        self._say("STOPPING=1")

    def _say(self, word: str) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.settimeout(1)
            line.sendto(word.encode(), self._address)


def supervisor_of(environ: Mapping[str, str]) -> SystemdSupervisor | Unsupervised:
    """The one that started this process, if it said so in NOTIFY_SOCKET; its watchdog only if it is meant for us."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return Unsupervised()
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    is_watched = microseconds.isdecimal() and int(microseconds) > 0 and pid == str(os.getpid())
    return SystemdSupervisor(address, watchdog=timedelta(microseconds=int(microseconds)) if is_watched else None)
