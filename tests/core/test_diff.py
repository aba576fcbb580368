"""Claims about protected paths and the diff budget."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tamma.core.diff import judge_budget, judge_protected, refusal
from tamma.core.gate import GateVerdict
from tamma.core.policy import ChangePolicy


@dataclass(frozen=True)
class Path:
    """A changed path with defaults."""

    path: str
    status: str = "M"
    lines_added: int = 1
    lines_removed: int = 0
    bytes: int = 10
    is_binary: bool = False


@pytest.mark.parametrize(
    "changes",
    [
        (Path(".github/workflows/ci.yml"),),
        (Path(".github/workflows/ci.yml", status="D"), Path("ci.yml", status="A")),
        (Path("ci.yml", status="D"), Path(".github/workflows/ci.yml", status="A")),
        (Path(".github", status="A"),),
        (Path(".github", status="T"),),
        (Path("Makefile", lines_added=0),),
        (Path(".GITHUB/./x"),),
        (Path("a/../.github/x"),),
        (Path("/abs"),),
    ],
    ids=[
        "changed",
        "renamed out",
        "renamed in",
        "link in its place",
        "type change",
        "mode only",
        "disguised",
        "dots",
        "odd",
    ],
)
def test_a_protected_path_is_refused(changes: tuple[Path, ...]) -> None:
    """However it is touched, the gate fails, binds, and the engine can tell that it is a refusal."""
    report = judge_protected((Path("src/a.py"), *changes), policy=ChangePolicy())
    assert report.verdict is GateVerdict.FAIL
    assert report.binds
    assert refusal([report]) is report


def test_what_happened_to_a_protected_path_is_said_in_words() -> None:
    """Not with git's letter; and a pattern is named only where it says more than the path."""
    changes = (Path("Makefile", status="A"), Path(".github/ci.yml", status="D"))
    report = judge_protected(changes, policy=ChangePolicy(protected_paths=("Makefile", ".github/**")))
    assert (
        report.summary
        == "the change adds Makefile (a protected path), deletes .github/ci.yml (protected by .github/**)"
    )


def test_ordinary_paths_are_not_refused() -> None:
    """Source, tests and documents may change."""
    report = judge_protected((Path("src/a.py"), Path("tests/conftest.py"), Path("README.md")), policy=ChangePolicy())
    assert report.verdict is GateVerdict.PASS
    assert refusal([report]) is None


@pytest.mark.parametrize(
    ("changes", "policy", "word"),
    [
        ([Path(f"f{i}") for i in range(3)], ChangePolicy(files_max=2), "3 files, 2 allowed"),
        ([Path("a", lines_added=5, lines_removed=6)], ChangePolicy(lines_max=10), "11 lines, 10 allowed"),
        ([Path("a", bytes=11)], ChangePolicy(bytes_max=10), "11 bytes, 10 allowed"),
        ([Path("a", is_binary=True)], ChangePolicy(binaries_max=0), "1 binary, 0 allowed"),
        ([Path("big", bytes=11)], ChangePolicy(file_bytes_max=10), "big"),
    ],
)
def test_each_budget_binds_just_above_its_limit(changes: list[Path], policy: ChangePolicy, word: str) -> None:
    """The report says what is too large, and what is allowed."""
    report = judge_budget(changes, policy=policy)
    assert report.verdict is GateVerdict.FAIL
    assert word in report.summary
    assert refusal([report]) is None


def test_a_change_at_its_limits_passes() -> None:
    """Limits are inclusive, and what is deleted weighs no bytes."""
    policy = ChangePolicy(files_max=2, lines_max=10, bytes_max=10, file_bytes_max=10)
    changes = [
        Path("a", lines_added=5, lines_removed=0, bytes=10),
        Path("b", status="D", lines_added=0, lines_removed=5, bytes=99),
    ]
    assert judge_budget(changes, policy=policy).verdict is GateVerdict.PASS
