"""A project whose tables must equal the fold of its log, whatever was done to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fold_check import assert_fold_equals_tables
from tests.support.project import Project, a_project


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Iterator[Project]:
    """A repository with a wrong sum, an issue that says so, and an agent that mends it."""
    with a_project(tmp_path, database_url) as made:
        made.repository()
        made.issue()
        made.configure()
        yield made
    assert_fold_equals_tables(database_url)
