"""A local forge in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.test_local_forge import LocalWorld


@pytest.fixture
def world(tmp_path: Path) -> LocalWorld:
    """An empty local forge."""
    return LocalWorld(tmp_path)
