"""Fixtures of every test; each theme has its own module in ``tests.support``."""

from __future__ import annotations

import signal

from tests.support import sample as _sample  # noqa: F401 — decides in the first process which day it is for all of them

pytest_plugins = ["tests.support.postgres"]

# A run started in the background of a script inherits SIGINT as ignored, and so would every child that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
