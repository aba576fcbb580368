"""Claims about what a real agent of a repair reads, which may know nothing of the turn before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.support.project import FILES, a_project

AGENT: Final = """
import os, pathlib, sys
turn = os.environ["TAMMA_TURN"]
pathlib.Path(sys.argv[1], "prompt-" + turn).write_text(sys.stdin.read())
pathlib.Path("calc.py").write_text("def add(a, b):\\n    return b + a\\n" if turn == "1" else "1/0\\n")
"""
CONFIGURED: Final = """
[environment]
setup = [["true"]]

[[gates]]
name = "check"
argv = ["sh", "-c", 'test -d "$0" && exec "$1" check.py', "{{environment}}", "{python}"]
env = {{ PYTHONPATH = "." }}

[agent]
kind = "command"
argv = ["{python}", "{agent}", "{folder}"]
"""


def test_a_repair_is_told_the_rules_and_the_command_as_the_first_turn_was(tmp_path: Path, database_url: str) -> None:
    """The gate's variables included, and no placeholder that no shell fills in."""
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)
    with a_project(tmp_path / "p", database_url) as project:
        project.repository(FILES | {"calc.py": "def add(a, b):\n    return a + b\n"})
        project.issue()
        project.configure(CONFIGURED.format(python=sys.executable, agent=agent, folder=tmp_path), steps=None)
        done = project.run("work", "--issue", "demo#1")
    assert done.code == 0, done.err
    first, repair = ((tmp_path / f"prompt-{turn}").read_text() for turn in (0, 1))
    command = f"""PYTHONPATH=. sh -c 'test -d "$0" && exec "$1" check.py' "$TAMMA_ENVIRONMENT" {sys.executable}\n"""
    assert f"- check: {command}" in first
    assert f"\nCommand: {command}" in repair
    assert "ZeroDivisionError" in repair
    rules = first[first.index("What stands between boundary lines") :]
    assert repair.endswith(rules)
