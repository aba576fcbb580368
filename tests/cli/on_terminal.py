"""``python -m tests.cli.on_terminal TTY ARGS…``: tamma, with that terminal as its own, so that it is told when it closes."""

from __future__ import annotations

import fcntl
import os
import sys
import termios

if __name__ == "__main__":
    terminal = os.open(sys.argv[1], os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    os.close(terminal)
    os.execv(sys.executable, [sys.executable, "-m", "tamma", *sys.argv[2:]])
