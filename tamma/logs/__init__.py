"""Log lines from events, by loguru."""

from __future__ import annotations

from tamma.logs.setup import level_of, log_event, log_fact, set_up, warn
from tamma.logs.store import LoggedStore

__all__ = ["LoggedStore", "level_of", "log_event", "log_fact", "set_up", "warn"]
