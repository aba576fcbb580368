"""Advisory locks (flock) that are waited for with patience: up to a time, and only as long as nobody asks to stop.

A lock ends with the last descriptor of its open file, so with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Callable
from typing import Final

EXCLUSIVE: Final = fcntl.LOCK_EX
SHARED: Final = fcntl.LOCK_SH
_POLL_SECONDS_MAX: Final = 0.05


def never() -> bool:
    """Nobody asks to stop."""
    return False


def take_now(descriptor: int, how: int = EXCLUSIVE) -> bool:
    """Take it if that needs no wait; whether it is ours."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take(
    descriptor: int, how: int = EXCLUSIVE, *, seconds: float = math.inf, should_stop: Callable[[], bool] = never
) -> bool:
    """Wait for it; False once the time is over or ``should_stop()`` says so."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while not take_now(descriptor, how):
        if should_stop() or time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, _POLL_SECONDS_MAX)
    return True
