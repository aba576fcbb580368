"""What is told once for as long as it lasts, not at every tick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Told:
    """Lines are told to ``report`` once, and again if they had gone for a whole round."""

    report: Callable[[str], None]
    _before: set[str] = field(default_factory=set)
    _now: set[str] = field(default_factory=set)

    def once(self, line: str) -> None:
        """Tell it unless it was told in this round or the one before."""
        if line not in self._before | self._now:
            self.report(line)
        self._now.add(line)

    def lasts(self, line: str) -> None:
        """It is so still, though nobody looked again."""
        self._now.add(line)

    def end_round(self) -> None:
        """What was not so in this round is news from the next one on."""
        self._before, self._now = self._now, set()
