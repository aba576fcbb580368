"""What a benchmark tells, and the loop that takes both sides in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.benchmarks.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Two medians and how they compare: a ratio above 1 means that ours is the better one."""

    name: str
    ours: float
    theirs: float
    peer: str
    unit: str
    ratio: float
    rounds: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded to what the noise leaves."""
        return {
            key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One set-up; ``gives`` names the figures that come of it."""

    name: str
    gives: tuple[str, ...]
    run: Callable[[Place, int], Iterator[Figure]]


def in_turn(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """``rounds`` values of each side, taken in turn, each round beginning with another side."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(sides[name]())
    return found


def less_is_better(name: str, ours: list[float], theirs: list[float], *, peer: str, unit: str) -> Figure:
    """For times."""
    mine, other = median(ours), median(theirs)
    return Figure(name=name, ours=mine, theirs=other, peer=peer, unit=unit, ratio=other / mine, rounds=len(ours))


def more_is_better(name: str, ours: list[float], theirs: list[float], *, peer: str, unit: str) -> Figure:
    """For rates."""
    mine, other = median(ours), median(theirs)
    return Figure(name=name, ours=mine, theirs=other, peer=peer, unit=unit, ratio=mine / other, rounds=len(ours))


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
