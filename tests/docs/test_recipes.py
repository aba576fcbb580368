"""The recipes of docs/operations.md do what they say: each block is read out of the page and run, only its places replaced."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cli.ends import assert_ok
from tests.support.project import Project, a_project

PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """One delivered issue in an embedded database."""
    with a_project(tmp_path, "") as made:
        made.repository()
        made.issue()
        made.configure()
        for folder in ("backups", "elsewhere"):
            (tmp_path / folder).mkdir()
        assert_ok(made.run("orchestrate", "--until-idle"))
        yield made
        made.run("db", "stop")


def recipes(section: str) -> list[str]:
    """The shell blocks of a section, in order."""
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    found = _BLOCK.findall(text)
    assert found, f"{section} has no recipe"
    return found


def follow(project: Project, recipe: str) -> str:
    """Run it in Tamma's folder as it stands, with places of the test's own; a loop ends when nothing is left to do."""
    places = {
        "/var/backups": str(project.root / "backups"), "/elsewhere": str(project.root / "elsewhere"),
        "tamma-2026-11-23.tamma": "tamma-*.tamma",
    }  # fmt: skip
    for written, meant in places.items():
        recipe = recipe.replace(written, meant)
    recipe = re.sub(r"^tamma orchestrate$", "tamma orchestrate --until-idle", recipe, flags=re.MULTILINE)
    path = f"{Path(sys.executable).parent}:{project.environ()['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe], cwd=project.root, env=project.environ() | {"PATH": path},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (recipe, done.stdout, done.stderr)
    return done.stdout


def test_pause(project: Project) -> None:
    """The status says so and why; afterwards nothing is paused."""
    for recipe in recipes("Pause"):
        assert "release day" in follow(project, recipe)
    assert "release day" not in assert_ok(project.run("status")).out


def test_a_backup_comes_back(project: Project) -> None:
    """Every block of the section in turn; before the one that restores, the database is moved aside as the page tells."""
    changes, issue = project.changes(), project.issue_text()
    keep, restore = recipes("Back up and restore")
    assert "whole: " in follow(project, keep)
    assert_ok(project.run("db", "stop"))
    (project.root / ".tamma" / "postgres").rename(project.root / "aside")
    assert "whole: " in follow(project, restore)
    assert "1 succeeded" in assert_ok(project.run("status")).out
    assert (project.changes(), project.issue_text()) == (changes, issue)


def test_archive(project: Project) -> None:
    """What would go, what goes, and the proof."""
    for recipe in recipes("Archive"):
        follow(project, recipe)
    assert "1 succeeded" in assert_ok(project.run("status")).out
