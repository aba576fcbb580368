"""Claims about the marks by which we know our own: what we write we find again, and nothing else passes for it."""

from __future__ import annotations

import pytest

from tamma.core.change import Marker, find_markers, notice_marker
from tamma.core.ids import Oid, TaskId

TASK = TaskId("09c1901c-e661-5999-88bf-9ac60d2d8dae")
HEAD = Oid("a1" * 20)


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        (Marker(what="change", task=TASK), f"<!-- tamma:change task={TASK} -->"),
        (Marker(what="change", task=TASK, head=HEAD), f"<!-- tamma:change task={TASK} head={HEAD} -->"),
        (Marker(what="change", task=TASK, head=Oid("0f" * 32)), f"<!-- tamma:change task={TASK} head={'0f' * 32} -->"),
    ],
)
def test_a_marker_is_found_as_it_was_written(marker: Marker, text: str) -> None:
    """Its text is a promise: what an older release wrote must be known."""
    assert str(marker) == text
    assert find_markers(f"before {text} after") == (marker,)


def test_markers_are_found_in_their_order() -> None:
    """All of them."""
    first, second = Marker(what="change", task=TASK, head=HEAD), Marker(what="plan", task=TASK)
    assert find_markers(f"{second}\n{first}") == (second, first)


@pytest.mark.parametrize(
    "text",
    [
        f"<!-- tamma:change task={TASK}0 -->",
        f"<!-- tamma:change task={str(TASK)[:-1]} -->",
        f"<!-- tamma:change task={str(TASK)[:-1]}g -->",
        f"<!-- tamma: task={TASK} -->",
        f"<!-- tamma:Change task={TASK} -->",
        f"<!-- tamma:change task={TASK} head={'a' * 39} -->",
        f"<!-- tamma:change task={TASK} head={'a' * 65} -->",
        f"<!-- tamma:change task={TASK} head={'g' * 40} -->",
        f"<!-- amma:change task={TASK} -->",
    ],
)
def test_what_only_looks_like_a_marker_is_none(text: str) -> None:
    """A character more or less is somebody else's text."""
    assert find_markers(text) == ()


def test_a_notice_is_told_once_for_each_attempt_or_once_for_all() -> None:
    """By its marker, which is the natural key of the comment."""
    assert notice_marker(TASK, notice="asked", epoch=0) == f"<!-- tamma:notice=asked task={TASK} epoch=0 -->"
    assert notice_marker(TASK, notice="delivered", epoch=None) == f"<!-- tamma:notice=delivered task={TASK} -->"
