"""The README's commands stand alone under their comments, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
README: Final = (TOP / "README.md").read_text(encoding="utf-8")
PAGES: Final = sorted(
    [TOP / "README.md", TOP / "CHANGELOG.md", *(TOP / "docs").rglob("*.md"), *(TOP / "examples").rglob("*.md")]
)
_LINK: Final = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCED: Final = re.compile(r"^(```+|~~~+).*?^\1", re.DOTALL | re.MULTILINE)
_HEADING: Final = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@pytest.mark.parametrize("name", ["run", "test"])
def test_each_command_stands_alone_under_its_comment(name: str) -> None:
    """One comment, then at once one fenced block with one line in it."""
    found = re.findall(rf"^<!-- command: {name} -->\n```sh\n(.*?)\n```$", README, re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    assert found[0].strip()
    assert README.count(f"<!-- command: {name} -->") == 1


def test_the_commands_open_the_readme() -> None:
    """They come before the first section, run first."""
    run, test, section = (README.index(text) for text in ("<!-- command: run -->", "<!-- command: test -->", "\n## "))
    assert run < test < section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(TOP).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository, and its anchor a heading there."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    broken = [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link) and not _resolves(page, link)]
    assert not broken


def _resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not target.is_relative_to(TOP):
        return False
    return not anchor or anchor in _anchors(target)


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
