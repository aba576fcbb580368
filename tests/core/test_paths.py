"""Claims about paths and patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.paths import first_match, inside, matches, normalised, select
from tamma.core.policy import DEFAULT_PROTECTED_PATHS, DEFAULT_TEST_PATHS


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "a.py", True),
        ("*.py", "d/a.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "d/e/a.py", True),
        (".github/**", ".github/workflows/x.yml", True),
        (".github/**", ".github", True),
        (".github/**", ".githubx/a", False),
        (".github/**", "a/.github/x", False),
        ("**/tests/**", "tests/a/b.txt", True),
        ("**/tests/**", "src/tests/b.txt", True),
        ("**/tests/**", "src/mytests/b.txt", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "axb", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[!a-c]x", "dx", True),
        ("a[", "a[", True),
        ("[b-a]", "[b-a]", True),
        ("[?--]", "-", True),
        ("[a-]", "-", True),
        ("[^a]", "^", True),
        ("a.b", "axb", False),
        (".woodpecker*", ".woodpecker.yml", True),
        ("Makefile", "makefile", True),
        ("conftest.py", "tests/conftest.py", False),
        ("caf\u00e9", "cafe\u0301", True),
        ("**", "a/b", True),
        ("docs/", "docs", True),
        ("./docs", "docs", True),
        ("a/b/**", "a/c", False),
        ("a?c", "a\nc", True),
        ("a\nc", "ac", False),
        ("[a\nc]", "\n", True),
    ],
)
def test_globs(pattern: str, path: str, expected: bool) -> None:
    """Stars stay inside a name, double stars span names, and case and Unicode form do not matter."""
    assert matches(path, pattern) is expected


@pytest.mark.parametrize(
    "path",
    [".GitHub/Workflows/x.yml", ".github", "x/Dockerfile.prod", "Codeowners", ".CLAUDE/settings.json", "MAKEFILE"],
)
def test_default_protection_cannot_be_dodged_by_case(path: str) -> None:
    """A file system that folds case would take these for the protected ones."""
    assert any(matches(path, pattern) for pattern in DEFAULT_PROTECTED_PATHS)


@pytest.mark.parametrize(
    "path", ["src/pkg/test_a.py", "web/a.test.ts", "x/__tests__/a.js", "pkg/a_test.go", "tests/fixtures/a.json"]
)
def test_default_test_paths(path: str) -> None:
    """Tests and their fixtures of the usual ecosystems."""
    assert select([path], DEFAULT_TEST_PATHS) == (path,)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("./a//b/./c", "a/b/c"),
        (".github/./workflows", ".github/workflows"),
        ("a", "a"),
        ("/etc/passwd", None),
        ("a/../b", None),
        ("", None),
        (".", None),
        ("a\\b", None),
        ("C:/x", None),
        ("c:/x", None),
        ("a\nb", None),
        ("a\udcff", None),
        ("a\x00", None),
    ],
)
def test_odd_paths_are_refused(path: str, expected: str | None) -> None:
    """What no honest tree holds has no normal form."""
    assert normalised(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b", ("a", "b")),
        ("./a//b/.", ("a", "b")),
        ("", ()),
        (".", ()),
        ("a..b", ("a..b",)),
        ("/a", None),
        ("..", None),
        ("a/../b", None),
        ("a\x00", None),
    ],
)
def test_a_place_below_a_folder_never_leads_out_of_it(path: str, expected: tuple[str, ...] | None) -> None:
    """The names on the way there."""
    assert inside(path) == expected


def test_the_first_pattern_that_matches_is_told() -> None:
    """None if none does; and what is odd or matches none is not selected."""
    patterns = ("a/**", "**/b")
    assert [first_match(path, patterns) for path in ("a/b", "x/b", "c")] == ["a/**", "**/b", None]
    assert select(["c", "../b", "x/b", "./a/c"], patterns) == ("x/b", "./a/c")


@given(st.text(max_size=40))
def test_normal_form_is_stable(path: str) -> None:
    """Normalising twice changes nothing."""
    once = normalised(path)
    assert once is None or normalised(once) == once


@given(st.text(alphabet="ab/*?[]!.-\\^&|~", max_size=12), st.text(alphabet="ab/.-]", max_size=12))
def test_no_pattern_breaks_the_matcher(pattern: str, path: str) -> None:
    """Every text is a pattern: the matcher answers, it does not raise."""
    assert matches(path, pattern) in (True, False)


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=5), min_size=1, max_size=5))
def test_a_plain_path_matches_itself_and_double_star(parts: list[str]) -> None:
    """A pattern without marks is a name."""
    path = "/".join(parts)
    assert matches(path, path)
    assert matches(path, "**")
    assert matches(path, "**/" + parts[-1])
