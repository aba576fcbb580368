"""A project of its own for each test, and what every end of a command has in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import Project, a_project


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Iterator[Project]:
    """A repository with a wrong sum, an issue that says so, and an agent that mends it."""
    with a_project(tmp_path, database_url) as made:
        made.repository()
        made.issue()
        made.configure()
        yield made


@pytest.fixture
def bare_project(tmp_path: Path) -> Iterator[Project]:
    """The same without any database: commands make an embedded one, which is stopped at the end."""
    with a_project(tmp_path, "") as made:
        made.repository()
        made.issue()
        made.configure()
        yield made
        if (tmp_path / ".tamma" / "postgres").exists():
            made.run("db", "stop")
