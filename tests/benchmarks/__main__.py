"""Run the benchmarks: one line each, as words or (``--json``) as JSON objects."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Final

from tests.benchmarks import append, queue, startup, task, tick, workspace
from tests.benchmarks.measure import Benchmark, Figure
from tests.benchmarks.place import a_place

BENCHMARKS: Final[tuple[Benchmark, ...]] = (
    *queue.BENCHMARKS,
    *tick.BENCHMARKS,
    *append.BENCHMARKS,
    *workspace.BENCHMARKS,
    *task.BENCHMARKS,
    *startup.BENCHMARKS,
)


def main() -> int:
    """0 when everything that was asked for ran; 2 when nothing has that name."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="one benchmark, or the one that gives this figure")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="values of each side (default: 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    chosen = [b for b in BENCHMARKS if asked.only in (None, b.name, *b.gives)]
    if not chosen or asked.rounds < 1:
        known = ", ".join(b.name for b in BENCHMARKS)
        print(f"nothing to run; benchmarks are: {known}; rounds: at least 1", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `timeout` leaves no server behind
    for benchmark in chosen:
        with a_place() as place:
            for figure in benchmark.run(place, asked.rounds):
                print(json.dumps(figure.as_dict()) if asked.json else _line(figure), flush=True)
    return 0


def _line(figure: Figure) -> str:
    values = f"ours {figure.ours:,.4g} {figure.unit}, theirs {figure.theirs:,.4g} {figure.unit}"
    return f"{figure.name:<30} {figure.ratio:5.2f} times {figure.peer}: {values} ({figure.rounds} rounds)"


if __name__ == "__main__":
    sys.exit(main())
