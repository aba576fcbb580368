"""The reference pages say what the code does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs import generate
from tests.docs.generate import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_says(name: str) -> None:
    """Each reference page equals what is generated; `python -m tests.docs.generate` rewrites them."""
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name]()


def test_a_stale_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` ends with 1 and writes nothing; without it the page is made anew."""
    shutil.copytree(FOLDER, tmp_path / "docs")
    shutil.copytree(FOLDER.parent / "tamma", tmp_path / "tamma", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(generate, "FOLDER", tmp_path / "docs")
    page = tmp_path / "docs" / "events.md"
    page.write_text("old")
    assert generate.main(["--check"]) == 1
    assert "docs/events.md" in capsys.readouterr().out
    assert page.read_text() == "old"
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
