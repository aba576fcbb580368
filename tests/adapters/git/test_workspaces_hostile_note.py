"""What an agent that reached its attempt's folder left there, and the next attempt must survive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tamma.adapters.proc.regular import read_regular


@pytest.mark.timeout(20)
def test_a_fifo_in_place_of_a_note_holds_nobody(tmp_path: Path) -> None:
    """Opening it to read would wait for a writer for ever."""
    os.mkfifo(tmp_path / "base.json")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "base.json", bytes_max=10)
    (tmp_path / "link").symlink_to(tmp_path / "base.json")
    with pytest.raises(OSError, match="link"):
        read_regular(tmp_path / "link", bytes_max=10, follow=False)
