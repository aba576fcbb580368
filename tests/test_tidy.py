"""House rules that no linter knows; each failure names the place and what to do instead."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[1]
FILE_LINES_MAX: Final = 500
FUNCTION_LINES_MAX: Final = 60
README_LINES_MAX: Final = 150
ALLOWED: Final = {
    "pyproject.toml", "tamma", "tests", "alembic.ini", "alembic", "examples", "README.md", "docs", "CHANGELOG.md", "LICENSE",
}  # fmt: skip
# Put together here so that this file does not hold them.
BANNED: Final = {
    "FIX" + "ME": "do it, or file an issue",
    "TO" + "DO": "do it, or file an issue",
    "NotImplemented" + "Error": "leave the branch out until it exists; a Protocol's method has a docstring and no body",
}
FAKES_MAY: Final = {"NotImplemented" + "Error"}
SOURCES: Final = sorted((TOP / "tamma").rglob("*.py"))
ALL: Final = sorted([*SOURCES, *(TOP / "tests").rglob("*.py"), *(TOP / "alembic").rglob("*.py")])
# A TAP directive of `node --test` is a word of that format, not a note of ours.
_EXEMPT: Final = {"tests/real_cases/npm_gate.py": {"TO" + "DO"}}


def _name(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_every_module_says_what_it_is(path: Path) -> None:
    """The first thing in a module is a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), (
        f"{_name(path)}: begin with what the module is for"
    )


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_files_and_functions_are_short(path: Path) -> None:
    """A file holds one concept, a function one step."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE_LINES_MAX, f"{_name(path)}: split it by concept"
    long = [
        f"{_name(path)}:{line} {name} has {length} lines"
        for name, line, length in _functions(text)
        if length > FUNCTION_LINES_MAX
    ]
    assert not long, f"{long}: keep the branching, move the leaves out"


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_nothing_is_put_off(path: Path) -> None:
    """No note that promises a later change stands in the code."""
    text = path.read_text(encoding="utf-8")
    exempt = _EXEMPT.get(_name(path), set())
    banned = {
        word: instead
        for word, instead in BANNED.items()
        if word not in exempt and (path in SOURCES or word not in FAKES_MAY)
    }
    found = [f"{word}: {instead}" for word, instead in banned.items() if re.search(rf"\b{word}\b", text)]
    assert not found, f"{_name(path)}: {found}"


def test_the_top_of_the_repository_holds_what_is_agreed() -> None:
    """What git tracks at the top is the agreed list, and names that begin with a dot."""
    git = shutil.which("git")
    if git is None or not (TOP / ".git").exists():
        pytest.skip("not a git checkout")
    told = subprocess.run([git, "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=True)
    tops = {name.split("/")[0] for name in told.stdout.split("\0") if name}
    extra = {name for name in tops - ALLOWED if not name.startswith(".")}
    assert not extra, f"{sorted(extra)}: move it into tamma, tests, examples or docs"


def test_the_readme_is_short() -> None:
    """Who opens it wants to run it; the rest is in docs."""
    assert len((TOP / "README.md").read_text(encoding="utf-8").splitlines()) < README_LINES_MAX


def test_imports_follow_the_contracts() -> None:
    """Layers, purity and independence hold, and every module has its place."""
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run([tool, "--no-cache"], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _functions(text: str) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1
