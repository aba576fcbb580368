"""Log lines from events, by loguru."""

from __future__ import annotations

from tamma.logs.setup import level_of, log_event, set_up

__all__ = ["level_of", "log_event", "set_up"]
