"""SIGTERM, SIGINT and SIGHUP, as exit codes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from tamma.core.errors import ExitCode


def on_signals(handler: Callable[[ExitCode], None]) -> None:
    """Call ``handler`` with the exit code of each SIGTERM, SIGINT or SIGHUP from now on, in the main thread.

    A terminal that closes asks for the same as SIGTERM, unless whoever started us said (nohup) that it is to be ignored.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        handler(ExitCode.SIGINT if number == signal.SIGINT else ExitCode.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handle)
