"""docs/performance.md has a row for each figure of the benchmarks, and none that nobody measures."""

from __future__ import annotations

import re

from tests.benchmarks.__main__ import BENCHMARKS
from tests.docs.generate import FOLDER


def test_every_figure_has_a_row() -> None:
    """Named in the first column, as the benchmarks name it."""
    page = (FOLDER / "performance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", page, flags=re.MULTILINE)
    assert sorted(rows) == sorted(name for benchmark in BENCHMARKS for name in benchmark.gives)
