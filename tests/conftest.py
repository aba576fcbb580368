"""Fixtures of every test; each theme has its own module in ``tests.support``."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from tests.support import sample as _sample  # noqa: F401 — decides in the first process which day it is for all of them

pytest_plugins = ["tests.support.postgres"]

# A run started in the background of a script inherits SIGINT as ignored, and so would every child that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Twice as many processes as there are processors: the tests wait for children and disks more than they compute."""
    processors = os.cpu_count() or 1
    with suppress(AttributeError):  # not on every system
        processors = len(os.sched_getaffinity(0))
    return 2 * processors
