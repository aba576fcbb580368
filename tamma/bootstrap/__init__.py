"""The composition root: the only place that knows every adapter. It hands ready sessions to the command line."""

from __future__ import annotations

from tamma.bootstrap.admin import embedded_url, propose_config, stop_database, upgrade_database
from tamma.bootstrap.sessions import Session, look_ahead, open_orchestrator, open_session, open_worker
from tamma.bootstrap.upkeep import (
    archive_log,
    back_up,
    exported_heads,
    find_archivable,
    grant_rights,
    restore,
    verify_database,
)

__all__ = [
    "Session",
    "archive_log",
    "back_up",
    "embedded_url",
    "exported_heads",
    "find_archivable",
    "grant_rights",
    "look_ahead",
    "open_orchestrator",
    "open_session",
    "open_worker",
    "propose_config",
    "restore",
    "stop_database",
    "upgrade_database",
    "verify_database",
]
