"""Whether anything is left to do: a loop is at rest after a whole round over all pages in which nothing moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tamma.core.errors import ExitCode
from tamma.engine.coverage import Coverage, Look

# Who waits until nothing is left to do looks once more at what was away, and does not wait for it for ever.
MISSED_LOOKS_MAX: Final = 2
HELD_NAMED_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How waiting until idle ends; ``why`` is empty if everything was done."""

    exit_code: ExitCode
    why: str = ""


@dataclass(slots=True)
class Rest:
    """``is_whole`` once the loop is at rest; then ``end`` tells whether that is all, or what was away or held back."""

    is_whole: bool = False
    _coverage: Coverage = field(default_factory=Coverage)
    _missed: set[str] = field(default_factory=set)
    _held: set[str] = field(default_factory=set)
    _missed_looks: int = 0

    def disturb(self) -> None:
        """Something moved: the round begins anew."""
        self._begin()
        self.is_whole = False
        self._missed_looks = 0

    def look(self, looks: Iterable[Look], *, missed: Iterable[str], held: Iterable[str]) -> None:
        """One tick in which nothing moved: the pages it saw, what it could not see, and what a pause holds back."""
        self._missed.update(missed)
        self._held.update(held)
        self.is_whole = self._coverage.has_whole(looks)

    def end(self) -> End | None:
        """None while there is something to wait for; what was away is looked at once more."""
        if not self.is_whole:
            return None
        if not self._missed:
            return self._end_of_held() if self._held else End(exit_code=ExitCode.DELIVERED)
        self._missed_looks += 1
        if self._missed_looks < MISSED_LOOKS_MAX:
            self._begin()
            return None
        missed = ", ".join(sorted(self._missed))
        why = f"nothing is left to do, but this could not be looked at: {missed}"
        return End(exit_code=ExitCode.TEMPORARY, why=why)

    def _begin(self) -> None:
        self._coverage.restart()
        self._missed.clear()
        self._held.clear()

    def _end_of_held(self) -> End:
        named = ", ".join(sorted(self._held)[:HELD_NAMED_MAX])
        more = f" and {len(self._held) - HELD_NAMED_MAX} more" if len(self._held) > HELD_NAMED_MAX else ""
        why = f"nothing is left to do, but this waits until work is no longer paused: {named}{more}"
        return End(exit_code=ExitCode.TEMPORARY, why=why)
