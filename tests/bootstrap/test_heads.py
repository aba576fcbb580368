"""Claims about a file of exported heads: all of it is read, and what is not whole or not ours proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamma.adapters.postgres.verify import Head
from tamma.bootstrap.heads import lines_of, read
from tamma.core.errors import ConfigError

HEADS = [Head(stream=f"task:{n}", version=n, hash=f"{n:064x}") for n in range(1, 4)]
EXPORT = "".join(f"{line}\n" for line in lines_of(HEADS))


def test_every_line_of_every_export_is_read(tmp_path: Path) -> None:
    """Also one that contradicts another of the same stream."""
    forged = Head(stream="task:1", version=1, hash="f" * 64)
    file = tmp_path / "heads"
    file.write_text("".join(f"{line}\n" for line in lines_of([forged])) + EXPORT + EXPORT)
    assert read(file) == {forged, *HEADS}


def test_an_export_of_nothing_is_not_an_empty_file(tmp_path: Path) -> None:
    """It says that there was nothing."""
    file = tmp_path / "heads"
    file.write_text("\n".join(lines_of([])))
    assert read(file) == frozenset()


def test_an_export_that_was_cut_anywhere_is_not_taken(tmp_path: Path) -> None:
    """At a line's end as well, and before its first line."""
    file = tmp_path / "heads"
    for kept in range(len(EXPORT) - 1):
        file.write_text(EXPORT[:kept])
        with pytest.raises(ConfigError, match="cannot be read as heads"):
            read(file)


def a_line(*, stream: str = '"a"', version: str = "1", hash_: str = f'"{"0" * 64}"') -> str:
    return f'{{"stream": {stream}, "version": {version}, "hash": {hash_}}}'


LINES = {
    "deep": "[" * 200_000,
    "a-list": "[]",
    "empty": "{}",
    "nul": "\x00",
    "nul-in-stream": a_line(stream='"a\\u0000b"'),
    "half-a-character": a_line(stream='"a\\ud800"'),
    "no-stream": a_line(stream='""'),
    "endless": a_line(version="1e999"),
    "a-fraction": a_line(version="1.5"),
    "zero": a_line(version="0"),
    "too-large": a_line(version="99999999999999999999"),
    "five-thousand-digits": a_line(version="9" * 5000),
    "no-hash": a_line(hash_='"no"'),
    "hash-in-a-list": a_line(hash_=f'["{"0" * 64}"]'),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_no_export_has_is_an_error_of_the_file(tmp_path: Path, line: str) -> None:
    """Not of the database that it is held against, and no bug."""
    file = tmp_path / "heads"
    file.write_text(f'{line}\n{{"streams": 1}}\n')
    with pytest.raises(ConfigError, match="cannot be read as heads"):
        read(file)
