"""``python -m tests.cli.on_terminal TTY ARGS…``: tamma, with that terminal as its own, so that it is told when it closes, also where
whoever runs the tests (nohup) wants to hear nothing of that."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios

if __name__ == "__main__":
    terminal = os.open(sys.argv[1], os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    os.close(terminal)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", "tamma", *sys.argv[2:]])
