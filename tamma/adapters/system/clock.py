"""Waiting and chance."""

from __future__ import annotations

import random
import time
from datetime import timedelta


class SystemClock:
    """Local waiting by the monotonic clock."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def pause(self, duration: timedelta) -> None:
        """Wait."""
        time.sleep(max(0.0, duration.total_seconds()))


class SystemChance:
    """Randomness of the system: forked processes and clones of a machine do not share it."""

    def __init__(self) -> None:
        self._source = random.SystemRandom()

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return self._source.random()
