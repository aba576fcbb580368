"""``python -m tests.recovery [--rounds 30] [--only NAME] [--json]``: times from a fault to work going on, and the objectives.

Real processes on one embedded Postgres with durable commits. Times are the log's own, by the database's clock, but for those
that end with a process. Exits 1 when a p99 misses its objective, or a process that was asked to stop kept or charged anything.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade
from tests.recovery.rounds import MEASURES, Measure, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measure; ``beyond`` is what the configured wait (a lease, a drain) has no part in, and what the objective bounds."""

    name: str
    rounds: int
    wait_seconds: float
    p50_beyond: float
    p99_beyond: float
    objective: float

    @property
    def is_met(self) -> bool:
        """Whether the p99 is within."""
        return self.p99_beyond <= self.objective


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.recovery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="of each (30)")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    asked = parser.parse_args()
    figures = [measured(name, MEASURES[name], rounds=asked.rounds) for name in asked.only or MEASURES]
    if asked.json:
        print(json.dumps([asdict(figure) | {"is_met": figure.is_met} for figure in figures]))
    else:
        _show(figures)
    return 0 if all(figure.is_met for figure in figures) else 1


def measured(name: str, measure: Measure, *, rounds: int) -> Figure:
    """So many rounds in a folder and on a server of its own."""
    root = Path(tempfile.mkdtemp(prefix="tamma-recovery-"))
    root.chmod(0o711)
    server = EmbeddedPostgres(root / "server")
    try:
        upgrade(server.start())
        place = Place(root=root / "project", server=server)
        place.root.mkdir()
        taken = [seconds - measure.wait_seconds for seconds in measure.run(place, rounds)]
    finally:
        server.stop("immediate")
        shutil.rmtree(root, ignore_errors=True)
    return Figure(
        name=name, rounds=len(taken), wait_seconds=measure.wait_seconds, p50_beyond=round(median(taken), 2),
        p99_beyond=round(sorted(taken)[math.ceil(0.99 * len(taken)) - 1], 2), objective=measure.objective_seconds,
    )  # fmt: skip


def _show(figures: list[Figure]) -> None:
    print(f"{'measure':<24}{'rounds':>8}{'wait':>8}{'p50':>10}{'p99':>10}{'objective':>11}   (seconds)")
    for f in figures:
        lead = f"{f.wait_seconds:g} +" if f.wait_seconds else ""
        verdict = "met" if f.is_met else "MISSED"
        print(
            f"{f.name:<24}{f.rounds:>8}{lead:>8}{f.p50_beyond:>10.2f}{f.p99_beyond:>10.2f}{f.objective:>11g}   {verdict}"
        )


if __name__ == "__main__":
    sys.exit(main())
