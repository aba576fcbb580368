"""What a run uses up: memory, descriptors, processes, connections, disk; looked at while it rages, and held to be flat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import psycopg

MEBIBYTE: Final = 1024 * 1024
# The first quarter is warming up: caches fill, the first issues come, the mirror is made.
_WARM_UP: Final = 0.25
_SAMPLES_MIN: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look; sizes in MiB, the rest counted."""

    seconds: float
    issues: int
    spared_loop_mib: float
    other_loops_mib: float
    spared_loop_descriptors: int
    other_loops_descriptors: int
    processes: int
    connections: int
    workspaces: int
    boxes: int
    environments: int
    mirrors_mib: float
    logs_mib: float
    database_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How much more at the end than after warming up is still flat: at once, for each hour, and for each issue since."""

    at_once: float
    an_hour: float = 0.0
    an_issue: float = 0.0


# The other loops are young most of the time: of them the highest is compared, of everything else the median.
_PEAKS: Final = frozenset({"other_loops_mib", "other_loops_descriptors"})
# What is kept of an issue grows with the issues: events and blobs, the branch in the mirror, the log of its attempts.
BOUNDS: Final[Mapping[str, Bound]] = {
    "spared_loop_mib": Bound(at_once=4, an_hour=1, an_issue=0.02),
    "other_loops_mib": Bound(at_once=12, an_hour=1, an_issue=0.02),
    "spared_loop_descriptors": Bound(at_once=8),
    "other_loops_descriptors": Bound(at_once=12),
    "processes": Bound(at_once=20),
    "connections": Bound(at_once=12),
    "workspaces": Bound(at_once=12),
    "boxes": Bound(at_once=24),
    "environments": Bound(at_once=2),
    "mirrors_mib": Bound(at_once=4, an_issue=0.05),
    "logs_mib": Bound(at_once=1, an_issue=0.1),
    "database_mib": Bound(at_once=16, an_issue=0.5),
}


@dataclass(slots=True, kw_only=True)
class Gauge:
    """Takes samples of one project. Times are those of one monotonic clock."""

    root: Path
    rows: Callable[[str], list[tuple[object, ...]]]
    state: str = ".tamma"
    samples: list[Sample] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    @property
    def boxes(self) -> Path:
        """The temporary folder of all its processes."""
        return self.root / "tmp"

    def look(self, *, spared: int, others: Sequence[int]) -> None:
        """One more sample; none while the database is away or a process just went."""
        with suppress(psycopg.OperationalError, OSError):
            self.samples.append(self._sample(spared, others))

    def shown(self) -> dict[str, Sample]:
        """At the start, in the middle, at the end."""
        if not self.samples:
            return {}
        return {
            "start": self.samples[0],
            "middle": self.samples[len(self.samples) // 2],
            "end": self.samples[-1],
        }

    def _sample(self, spared: int, others: Sequence[int]) -> Sample:
        [(issues, size, connections)] = self.rows(
            """SELECT (SELECT count(*) FROM task WHERE finished_at IS NOT NULL), pg_database_size(current_database()),
                (SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, 'tamma'))"""
        )
        state = self.root / self.state
        return Sample(
            seconds=round(time.monotonic() - self._begun, 1),
            issues=int(str(issues)),
            spared_loop_mib=_memory(spared),
            other_loops_mib=max(map(_memory, others), default=0.0),
            spared_loop_descriptors=_descriptors(spared),
            other_loops_descriptors=max(map(_descriptors, others), default=0),
            processes=_processes(str(self.root)),
            connections=int(str(connections)),
            workspaces=len(list((state / "workspaces").glob("*/*"))),
            boxes=len(list(self.boxes.glob("tamma-*"))),
            environments=len(list((state / "environments").glob("*"))),
            mirrors_mib=_size(state / "mirrors"),
            logs_mib=_size(state / "logs"),
            database_mib=_mib(int(str(size))),
        )


def not_flat(samples: Sequence[Sample]) -> Iterator[str]:
    """What grew by more than its bound between the first third after warming up and the last."""
    warm = samples[int(len(samples) * _WARM_UP) :]
    if len(warm) < _SAMPLES_MIN:
        return
    third = len(warm) // 3
    early, late = warm[:third], warm[-third:]
    hours = (median(s.seconds for s in late) - median(s.seconds for s in early)) / 3600
    issues = median(s.issues for s in late) - median(s.issues for s in early)
    for name, bound in BOUNDS.items():
        typical = max if name in _PEAKS else median
        before, after = (typical(asdict(sample)[name] for sample in part) for part in (early, late))
        allowed = bound.at_once + bound.an_hour * hours + bound.an_issue * issues
        if after - before > allowed:
            yield f"{name} went from {before:g} to {after:g}, {allowed:.1f} more would be flat"


def _memory(pid: int) -> float:
    """Resident."""
    told = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in told.splitlines() if line.startswith("VmRSS:")] or ["VmRSS: 0 kB"]
    return round(int(line.split()[1]) / 1024, 1)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _processes(root: str) -> int:
    """Those that run in this folder or below."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                found += str((entry / "cwd").readlink()).startswith(root)
    return found


def _size(folder: Path) -> float:
    """Of all files below; one that goes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return _mib(total)


def _mib(count: int) -> float:
    return round(count / MEBIBYTE, 2)
