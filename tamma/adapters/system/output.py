"""Output of any size in memory of a fixed size: head and tail are kept, the middle is counted; lines are handed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tamma.core.redact import bounded, clean

LINE_BYTES_MAX: Final = 8_192
# More than anybody reads along; each costs some microseconds, and who prints them may be quicker than we.
LINES_A_SECOND_MAX: Final = 10_000


class Kept:
    """Head and tail of a stream of bytes."""

    def __init__(self, bytes_max: int) -> None:
        self.total = 0
        self._bytes_max = max(0, bytes_max)
        self._head_max = self._bytes_max // 2
        self._tail_max = self._bytes_max - self._head_max
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take more."""
        self.total += len(chunk)
        room = self._head_max - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > self._tail_max + (1 << 16):
            self._trim()

    def text(self) -> str:
        """What was kept, cleaned, with the number of bytes left out in between; carriage returns are line ends."""
        self._trim()
        left_out = self.total - len(self._head) - len(self._tail)
        if left_out:
            return bounded(
                f"{_decode(self._head)}\n[… {left_out} bytes left out …]\n{_decode(self._tail)}",
                bytes_max=self._bytes_max + 64,
            )
        return bounded(_decode(self._head + self._tail), bytes_max=self._bytes_max)

    def _trim(self) -> None:
        del self._tail[: max(0, len(self._tail) - self._tail_max)]


class Lines:
    """Cuts a stream into lines for ``on_line``; of a line longer than 8 KiB only the beginning is handed on, and of a flood of
    lines so many a second, with a line that tells how many were left out."""

    def __init__(self, on_line: Callable[[str], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._on_line = on_line
        self._now = now
        self._open = bytearray()
        self._room = 0
        self._room_until = float("-inf")
        self._left_out = 0

    def add(self, chunk: bytes) -> None:
        """Take more, handing on each line that is complete."""
        self._renew()
        *complete, rest = chunk.split(b"\n")
        for piece in complete[: self._room]:
            self._extend(piece)
            self._hand_on()
        if left_out := len(complete) - min(self._room, len(complete)):
            self._left_out += left_out
            self._open.clear()
        self._room -= len(complete) - left_out
        self._extend(rest)

    def end(self) -> None:
        """Hand on what came after the last line end."""
        self._tell_left_out()
        if self._open:
            self._hand_on()

    def _renew(self) -> None:
        now = self._now()
        if now >= self._room_until:
            self._tell_left_out()
            self._room, self._room_until = LINES_A_SECOND_MAX, now + 1

    def _tell_left_out(self) -> None:
        if self._left_out:
            self._on_line(f"[… {self._left_out} lines left out …]")
            self._left_out = 0

    def _extend(self, piece: bytes) -> None:
        self._open += piece[: LINE_BYTES_MAX - len(self._open)]

    def _hand_on(self) -> None:
        raw, self._open = self._open, bytearray()
        text = clean(raw.decode("utf-8", "replace"))
        self._on_line(text.encode()[:LINE_BYTES_MAX].decode("utf-8", "ignore"))


def _decode(raw: bytes | bytearray) -> str:
    return clean(raw.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))
