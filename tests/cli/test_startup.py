"""``tamma --help`` answers at once because it imports next to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Project

TOP = Path(__file__).parents[2]

HEAVY = {"sqlalchemy", "psycopg", "alembic", "pydantic", "pydantic_settings", "loguru", "yaml"}
ASK = """import sys
sys.argv = ["tamma", *sys.argv[1:]]
from tamma.__main__ import main
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported_by(*argv: str, project: Project | None = None) -> set[str]:
    """Top-level packages that are loaded once the command is done."""
    place: dict[str, Any] = (
        {"cwd": project.root, "env": {**project.environ(), "PYTHONPATH": str(TOP)}} if project else {}
    )
    done = subprocess.run([sys.executable, "-c", ASK, *argv], capture_output=True, text=True, check=True, **place)
    said, _, imported = done.stdout.rpartition("imported:")
    assert said
    return set(imported.split())


@pytest.mark.parametrize("words", [[], ["work"], ["task", "add"]], ids=" ".join)
def test_help_is_also_a_word(words: list[str]) -> None:
    """``tamma help task add`` is ``tamma task add --help``."""
    told = [
        subprocess.run([sys.executable, "-m", "tamma", *asked], capture_output=True, text=True, check=True).stdout
        for asked in (["help", *words], [*words, "--help"])
    ]
    assert told[0] == told[1]
    assert "Usage: " in told[0]


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_the_program_imports_no_database_and_no_configuration(argument: str) -> None:
    """Whoever only wants to know what there is does not wait for what is not used."""
    assert not HEAVY & imported_by(argument)


@pytest.mark.parametrize("command", ["orchestrate", "work", "init", "doctor", "status"])
def test_help_of_a_command_imports_no_more_than_typer_does(command: str) -> None:
    """Typer itself reads a command's parameters with pydantic."""
    assert not (HEAVY - {"pydantic"}) & imported_by(command, "--help")


@pytest.mark.parametrize(
    "argv", [["status"], ["explain", "1"], ["work", "--issue", "1"], ["orchestrate", "--once"]], ids=" ".join
)
def test_who_works_or_looks_loads_nothing_that_is_there_for_the_schema(project: Project, argv: list[str]) -> None:
    """A third of what it would load (docs/decisions/0016)."""
    project.run("task", "add", "1")
    assert not {"sqlalchemy", "alembic"} & imported_by(*argv, project=project)


@pytest.mark.parametrize("words", [[], ["work"], ["task"], ["task", "add"], ["db", "archive"]], ids=" ".join)
def test_help_names_no_type_of_a_switch(words: list[str]) -> None:
    """``--version`` takes no value."""
    told = subprocess.run([sys.executable, "-m", "tamma", *words, "--help"], capture_output=True, text=True, check=True)
    assert "--help" in told.stdout
    assert "<bool>" not in told.stdout.lower()
