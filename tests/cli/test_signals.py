"""Which signals are asked for."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tamma.cli.signals import on_signals
from tamma.core.errors import ExitCode


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As before, afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_closed_terminal_asks_to_stop() -> None:
    """SIGHUP has the exit code of SIGTERM."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    got: list[ExitCode] = []
    on_signals(got.append)
    signal.raise_signal(signal.SIGHUP)
    assert got == [ExitCode.SIGTERM]


def test_nohup_is_respected() -> None:
    """A SIGHUP that was ignored from the start stays ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    got: list[ExitCode] = []
    on_signals(got.append)
    signal.raise_signal(signal.SIGHUP)
    assert not got
