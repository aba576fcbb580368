"""Claims about what commands print, without a command around it."""

from __future__ import annotations

import pytest

from tamma.cli.render import print_lines, print_table


def test_a_cell_breaks_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    """A title with line breaks or tabs, in a pipe, is one value of one line still."""
    print_table([["demo#1", "one\n\ttwo\r\nthree\u2028four"], ["demo#2", "plain  text"]], head=["issue", "title"])
    assert capsys.readouterr().out == "issue\ttitle\ndemo#1\tone two three four\ndemo#2\tplain  text\n"


def test_a_separator_breaks_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a title in it holds."""
    print_lines(["create demo#1 one\u2028two\u2029three"])
    assert capsys.readouterr().out == "create demo#1 one two three\n"
