"""How fast the command line answers: ``tamma --help`` against the smallest program with the same libraries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from tests.benchmarks.measure import Benchmark, Figure, in_turn, less_is_better, seconds_of
from tests.benchmarks.place import ROOT, Place, run

_TIMES: Final = 3
_MINIMAL: Final = '''"""The smallest program with Typer and rich."""
import typer

app = typer.Typer()

@app.command()
def hello(name: str) -> None:
    """Say hello."""
    print(f"hello {name}")

if __name__ == "__main__":
    app()
'''


def startup(place: Place, rounds: int) -> Iterator[Figure]:
    """Whole processes with warm bytecode; a few a round, since one alone is mostly noise."""
    folder = place.fresh_folder("startup")
    (folder / "minimal.py").write_text(_MINIMAL)

    def ours() -> float:
        return seconds_of(lambda: run([sys.executable, "-m", "tamma", "--help"], at=ROOT)) * 1_000

    def theirs() -> float:
        return seconds_of(lambda: run([sys.executable, "-m", "minimal", "--help"], at=folder)) * 1_000

    sides = {"ours": ours, "theirs": theirs}
    in_turn(1, sides)
    found = in_turn(rounds * _TIMES, sides)
    yield less_is_better("help", found["ours"], found["theirs"], peer="minimal Typer app with rich", unit="ms")


BENCHMARKS: Final = (Benchmark(name="help", gives=("help",), run=startup),)
