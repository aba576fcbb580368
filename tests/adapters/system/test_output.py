"""Claims about a stream that is cut into lines: each is handed on, and a flood of them holds nobody up."""

from __future__ import annotations

from tamma.adapters.system.output import LINES_A_SECOND_MAX, Lines


def test_lines_are_whole_wherever_the_chunks_end() -> None:
    """And what comes after the last line end is a line, too."""
    heard: list[str] = []
    lines = Lines(heard.append)
    for chunk in (b"on", b"e\ntwo\nth", b"", b"ree\n\nfo", b"ur"):
        lines.add(chunk)
    lines.end()
    assert heard == ["one", "two", "three", "", "four"]


def test_of_a_flood_so_many_a_second_are_handed_on_and_the_rest_is_counted() -> None:
    """A hundred times as many, cut in the middle of lines, within one second; then the next second begins."""
    heard: list[str] = []
    time = [0.0]
    lines = Lines(heard.append, now=lambda: time[0])
    flood = b"0123456\n" * (100 * LINES_A_SECOND_MAX)
    for at in range(0, len(flood), 10_001):
        lines.add(flood[at : at + 10_001])
    assert heard == ["0123456"] * LINES_A_SECOND_MAX
    lines.add(b"unfinished ")
    time[0] = 1.0
    lines.add(b"line\n")
    assert heard[LINES_A_SECOND_MAX:] == [f"[… {99 * LINES_A_SECOND_MAX} lines left out …]", "unfinished line"]


def test_what_was_left_out_at_the_end_is_told() -> None:
    """The last word is how many nobody heard, and the line that was still open."""
    heard: list[str] = []
    lines = Lines(heard.append, now=lambda: 0.0)
    lines.add(b"x\n" * (LINES_A_SECOND_MAX + 7) + b"open")
    lines.end()
    assert heard[LINES_A_SECOND_MAX:] == ["[… 7 lines left out …]", "open"]
