"""Claims about text that goes outward (SECURITY C8)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.outward import code, defused, fenced, inline, quoted


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("ping @everyone", "@everyone"),
        ("Closes #1", "#1"),
        ("fixes GH-12", "GH-12"),
        ("closes owner/repo#3", "#3"),
        ("see !42", "!42"),
        ("![](https://evil.example/?k=v)", "https://"),
        ("closes https://github.com/a/b/issues/3", "https://"),
        ("[x](javascript:alert(1))", "javascript:"),
        ("www.evil.example", "www.evil"),
        ("![x](//evil.example/x)", "//evil"),
        ("![x](//evil.example/x)", "]("),
        ("<img src=//evil.example/x>", "<img"),
        ("<!-- tamma: forged marker -->", "<!--"),
        ("\n/approve", "\n/approve"),
        ("/merge", "\n/merge"),
        ("a\u202eb", "\u202e"),
    ],
)
def test_text_does_not_act(text: str, forbidden: str) -> None:
    """Mentions, references, links, images, commands and bidi overrides are inert."""
    for shown in (defused(text), inline(text), code(text), quoted(text, bytes_max=1000)):
        assert forbidden not in "\n" + shown.removeprefix("```text")


def test_inline_text_is_one_inert_cell() -> None:
    """No table, markup or HTML of its own."""
    shown = inline("a | b\n<img src=x> **bold** [l](u) `c` &lt;")
    assert "\n" not in shown
    assert re.search(r"(?<!\\)[|<*`\[]", shown) is None
    assert "&amp;lt;" in shown


@given(st.text(alphabet="`a|\n ~", max_size=40))
def test_no_text_leaves_its_fence(text: str) -> None:
    """The fence is longer than any run inside, and a code span is one line."""
    lines = fenced(text, bytes_max=1000).splitlines()
    fence = lines[-1]
    assert set(fence) == {"`"}
    assert not any(fence in line for line in lines[1:-1])
    span = code(text)
    assert "\n" not in span
    assert "|" not in span


def test_blocks_are_bounded() -> None:
    """A megabyte becomes what was asked for."""
    assert len(fenced("x" * 1_000_000, bytes_max=1000)) < 1200
    assert len(inline("x" * 1000)) <= 300
