"""The machine: clock, chance, fail points, child processes, and who keeps us running."""

from tamma.adapters.system.clock import SystemChance, SystemClock
from tamma.adapters.system.failpoints import NamedFailPoints, NoFailPoints, parse_fail_points
from tamma.adapters.system.processes import OsProcesses
from tamma.adapters.system.supervisor import SystemdSupervisor, Unsupervised, supervisor_of

__all__ = [
    "NamedFailPoints",
    "NoFailPoints",
    "OsProcesses",
    "SystemChance",
    "SystemClock",
    "SystemdSupervisor",
    "Unsupervised",
    "parse_fail_points",
    "supervisor_of",
]
