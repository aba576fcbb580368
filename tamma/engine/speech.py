"""What an agent says, written from a thread of its own: a database that is away, or slow, neither ends nor holds the agent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Final

from tamma.core.errors import TransientError

WAITING_MAX: Final = 100
_AGAIN_SECONDS: Final = 0.5
_END_SECONDS: Final = 2.0


class Speech(AbstractContextManager["Speech"]):
    """Hands texts to ``record``, in order. While it raises TransientError at most ``WAITING_MAX`` wait, the newest; how many
    were dropped is said. What else it raises is raised by the next ``say``, and by ``flush``."""

    def __init__(self, record: Callable[[str], None]) -> None:
        self._record = record
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._is_ended = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="speech", daemon=True)

    def __enter__(self) -> Speech:
        """Start writing."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, if the database answers; returns soon if it does not."""
        with self._changed:
            self._is_ended = True
            self._changed.notify()
        self._thread.join(timeout=_END_SECONDS)

    def say(self, text: str) -> None:
        """Returns at once."""
        with self._changed:
            if self._error is not None:
                raise self._error
            if len(self._waiting) == WAITING_MAX:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(text)
            self._changed.notify()

    def flush(self, *, when_away: Callable[[], object]) -> None:
        """Once left: what could not be written, after ``when_away``, which waits for the database or raises."""
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            return  # it hangs in a connection that died without a word; words are not worth the wait
        if self._waiting:
            when_away()
            with suppress(TransientError):
                while self._waiting:
                    self._write_first()

    def _write(self) -> None:
        try:
            while self._wait_for_words():
                try:
                    self._write_first()
                except TransientError:
                    if self._is_ended:
                        return
                    with self._changed:
                        self._changed.wait_for(lambda: self._is_ended, timeout=_AGAIN_SECONDS)
        except Exception as error:  # noqa: BLE001 — told to whoever speaks next: a lost lease, a cancelled task, a bug
            self._error = error

    def _wait_for_words(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_ended)
            return bool(self._waiting)

    def _write_first(self) -> None:
        with self._changed:
            dropped, text = self._dropped, self._waiting[0]
        if dropped:
            self._record(f"[… {dropped} messages were dropped while the database was away …]")
            with self._changed:
                self._dropped -= dropped
        self._record(text)
        with self._changed:
            if self._waiting and self._waiting[0] is text:  # else it was dropped meanwhile, and counted
                self._waiting.popleft()
