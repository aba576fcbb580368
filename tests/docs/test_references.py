"""The reference pages say what the code does."""

from __future__ import annotations

import pytest

from tests.docs.generate import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_says(name: str) -> None:
    """Each reference page equals what is generated; `python -m tests.docs.generate` rewrites them."""
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name]()
