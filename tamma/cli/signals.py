"""SIGTERM and SIGINT, as exit codes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from tamma.core.errors import ExitCode


def on_signals(handler: Callable[[ExitCode], None]) -> None:
    """Call ``handler`` with the exit code of each SIGTERM or SIGINT from now on, in the main thread."""

    def handle(number: int, _frame: FrameType | None) -> None:
        handler(ExitCode.SIGINT if number == signal.SIGINT else ExitCode.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
