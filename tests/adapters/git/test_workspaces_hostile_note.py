"""What an agent that reached its attempt's folder left there, and the next attempt must survive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tamma.adapters.git.workspaces import _read_note


@pytest.mark.timeout(20)
def test_a_fifo_in_place_of_a_note_holds_nobody(tmp_path: Path) -> None:
    """Opening it to read would wait for a writer for ever."""
    os.mkfifo(tmp_path / "base.json")
    with pytest.raises(ValueError, match="not a regular file"):
        _read_note(tmp_path / "base.json")
    (tmp_path / "link").symlink_to(tmp_path / "base.json")
    with pytest.raises(OSError, match="link"):
        _read_note(tmp_path / "link")
