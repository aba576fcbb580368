"""A registered process: what it is, and whether it is still there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from tamma.core.ids import WorkerId


@unique
class WorkerRole(StrEnum):
    """What a registered process is."""

    ORCHESTRATOR = "orchestrator"
    WORKER = "worker"


@unique
class WorkerState(StrEnum):
    """``offline`` after three missed beats; ``gone`` after deregistration."""

    ONLINE = "online"
    DRAINING = "draining"
    OFFLINE = "offline"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A row of the registry; ``last_beat_at`` is volatile."""

    id: WorkerId
    host: str
    pid: int
    role: WorkerRole
    release: str
    capabilities: tuple[str, ...]
    state: WorkerState
    registered_at: datetime
    last_beat_at: datetime | None = None
