"""One of a thing is not many."""

from __future__ import annotations

import pytest

from tamma.core.diff import judge_budget, judge_protected
from tamma.core.policy import ChangePolicy
from tamma.core.words import counted, ended
from tests.core.test_diff import Path


@pytest.mark.parametrize(
    ("number", "words", "told"),
    [
        (0, ("file",), "0 files"),
        (1, ("file",), "1 file"),
        (2, ("file",), "2 files"),
        (1, ("test goes", "tests go"), "1 test goes"),
        (3, ("test goes", "tests go"), "3 tests go"),
    ],
)
def test_a_noun_follows_its_number(number: int, words: tuple[str, ...], told: str) -> None:
    """The plural is an s more, unless it is given."""
    assert counted(number, *words) == told


def test_gates_of_a_small_change_speak_of_one() -> None:
    """As does every sentence that people read."""
    small = [Path("a", lines_added=1, lines_removed=0)]
    assert judge_budget(small, policy=ChangePolicy()).summary == "1 file, 1 line"
    assert judge_protected(small, policy=ChangePolicy()).summary == "none of 1 changed path is protected"


def test_a_task_fails_by_itself_and_is_cancelled_by_somebody() -> None:
    """In a sentence about its end."""
    assert [ended(state) for state in ("succeeded", "failed", "cancelled")] == [
        "has succeeded",
        "has failed",
        "was cancelled",
    ]
