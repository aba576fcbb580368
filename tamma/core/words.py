"""Numbers and ends in sentences."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """The number and its noun: ``1 file``, ``2 files``; ``many`` where the plural is not just an ``s`` more."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def ended(state: str) -> str:
    """A task's end as what is said of it: ``has failed``, ``was cancelled``."""
    return "was cancelled" if state == "cancelled" else f"has {state}"
