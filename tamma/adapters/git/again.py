"""What reaches a remote is tried a few times when the remote is away: asking, fetching and the push by compare-and-swap may
all be repeated without harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from tamma.adapters.git.trouble import RemoteAway

if TYPE_CHECKING:
    from tenacity import RetryCallState

_TRIES_MAX: Final = 3
_FIRST_SECONDS: Final = 0.2
_PAUSE_SECONDS_MAX: Final = 2.0
_POLL_SECONDS: Final = 0.1

T = TypeVar("T")


def again(reach: Callable[[], T], *, should_stop: Callable[[], bool]) -> T:
    """What ``reach`` returns; tried up to three times with growing, jittered pauses while it raises RemoteAway.

    Another attempt by the queue comes later and costs a whole attempt; this is for a connection that broke once.
    """
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    retrying = Retrying(
        retry=retry_if_exception_type(RemoteAway),
        stop=lambda state: stop_after_attempt(_TRIES_MAX)(state) or should_stop(),
        wait=wait_random_exponential(multiplier=_FIRST_SECONDS, max=_PAUSE_SECONDS_MAX),
        sleep=lambda seconds: _pause(seconds, should_stop),
        before_sleep=_tell,
        reraise=True,
    )
    return retrying(reach)


def _pause(seconds: float, should_stop: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not should_stop():
        time.sleep(min(left, _POLL_SECONDS))


def _tell(state: RetryCallState) -> None:
    from loguru import logger

    error = state.outcome.exception() if state.outcome else None
    logger.warning("{}; trying again (try {} of {})", error, state.attempt_number + 1, _TRIES_MAX)
