"""SIGTERM, SIGINT and SIGHUP, as exit codes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType

from tamma.core.errors import ExitCode


def on_signals(handler: Callable[[ExitCode], None]) -> None:
    """Call ``handler`` with the exit code of each SIGTERM, SIGINT or SIGHUP from now on, in the main thread.

    A terminal that closes asks for the same as SIGTERM, unless whoever started us said (nohup) that it is to be ignored; what
    is written to it from then on goes nowhere.
    """
    terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _let_go([fd for fd in terminals if not os.isatty(fd)])
        handler(ExitCode.SIGINT if number == signal.SIGINT else ExitCode.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handle)


def _let_go(hung_up: Sequence[int]) -> None:
    """A terminal that is gone answers each write with an error."""
    for fd in hung_up:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, fd)
        os.close(nowhere)
