"""A machine in trouble fails a gate on the base too: such a run must not excuse every later change."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.engine.gate_world import World, python_gate

RED = "raise SystemExit(3)"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A repository."""
    return World(tmp_path, {"a.py": ""})


def red_then(path: Path, code: str) -> str:
    """A gate that fails with 3 once, then does something else."""
    return f"import pathlib; p = pathlib.Path({str(path)!r})\nif not p.exists(): p.touch(); raise SystemExit(3)\n{code}"


def test_a_base_that_failed_by_chance_is_green(world: World, tmp_path: Path) -> None:
    """The second run says so, and is what is remembered."""
    gate = python_gate(red_then(tmp_path / "once", "pass"))
    assert world.baseline(gate)["check"].is_green
    assert world.baseline(gate)["check"].is_green
    assert world.checkouts == ["gate-check-base", "gate-check-base-again"]


def test_runs_that_disagree_are_not_remembered(world: World, tmp_path: Path) -> None:
    """Red with 3, then with 4: the next attempt looks again."""
    gate = python_gate(red_then(tmp_path / "once", "raise SystemExit(4)"))
    assert world.baseline(gate)["check"].exit_code == 4
    assert not world.memory.values


def test_a_red_base_is_asked_again_the_next_day_and_a_green_one_never(world: World) -> None:
    """A day is what an outage may cost, not the life of the commit."""
    for code, runs in ((RED, 2), ("pass", 1)):
        world.checkouts.clear()
        world.baselines.age = timedelta(0)
        world.baseline(python_gate(code))
        world.baseline(python_gate(code))
        assert len(world.checkouts) == runs
        world.baselines.age = timedelta(days=1, seconds=1)
        world.baseline(python_gate(code))
        assert len(world.checkouts) == (2 * runs if code == RED else runs)
