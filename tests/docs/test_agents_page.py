"""The agents of docs/agents.md are whole: each block is a configuration that loads as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tamma.config.loader import load

PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"^```toml\n(\[agent\]\n.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_agent_of_the_page_loads(tmp_path: Path, block: str) -> None:
    """With a command line of its own."""
    (tmp_path / "tamma.toml").write_text(block)
    assert load(tmp_path / "tamma.toml", environ={}).config.agent.argv


def test_there_are_three() -> None:
    """As the heading says."""
    assert len(BLOCKS) == 3
