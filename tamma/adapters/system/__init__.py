"""The machine: clock, chance, fail points, child processes."""

from tamma.adapters.system.clock import SystemChance, SystemClock
from tamma.adapters.system.failpoints import NamedFailPoints, NoFailPoints, parse_fail_points
from tamma.adapters.system.processes import OsProcesses

__all__ = ["NamedFailPoints", "NoFailPoints", "OsProcesses", "SystemChance", "SystemClock", "parse_fail_points"]
