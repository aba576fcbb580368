"""An agent's stream as events: coalesced, at most a few a second, at most so many a run, each of bounded size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

EVENTS_MAX: Final = 200
SECONDS_MIN: Final = 0.25


class Telling:
    """Gathers lines and hands them on. A line that comes after a pause is told at once; the last event tells the rest."""

    def __init__(
        self, on_event: Callable[[str], None], *, bytes_max: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_event = on_event
        self._bytes_max = bytes_max
        self._now = now
        self._next_at = float("-inf")
        self._told = 0
        self._lines: list[str] = []
        self._bytes = 0
        self._left_out = 0

    def line(self, text: str) -> None:
        """One more line of the agent."""
        if not text.strip():
            return
        raw = text.encode()
        room = self._bytes_max - self._bytes
        if len(raw) <= room:
            self._lines.append(text)
            self._bytes += len(raw) + 1
        elif not self._lines:
            self._lines.append(raw[:room].decode("utf-8", "ignore"))
            self._bytes = self._bytes_max
        else:
            self._left_out += 1
        if self._told < EVENTS_MAX - 1 and self._now() >= self._next_at:
            self._tell()

    def end(self) -> None:
        """Tell what is left."""
        if self._lines:
            self._tell()

    def _tell(self) -> None:
        text = "\n".join(self._lines)
        if self._left_out:
            text += f"\n[… {self._left_out} lines left out …]"
        self._lines, self._bytes, self._left_out = [], 0, 0
        self._told += 1
        self._next_at = self._now() + SECONDS_MIN
        self._on_event(text)
