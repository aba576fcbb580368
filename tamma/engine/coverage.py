"""Whether all there is was looked at, where each look is bounded to a page of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One page: whether it began at the beginning, and came to the end."""

    of: str
    is_first: bool
    is_last: bool


@dataclass(slots=True)
class Coverage:
    """A round over everything: each thing looked at from its first page to its last, one page per tick."""

    _begun: set[str] = field(default_factory=set)
    _whole: set[str] = field(default_factory=set)

    def has_whole(self, looks: Iterable[Look]) -> bool:
        """Note one tick's looks; True once all that could be looked at in it has been looked at whole."""
        named = set[str]()
        for look in looks:
            named.add(look.of)
            if look.is_first:
                self._begun.add(look.of)
            if look.is_last and look.of in self._begun:
                self._whole.add(look.of)
        return named <= self._whole

    def restart(self) -> None:
        """Only what is looked at from now on counts."""
        self._begun.clear()
        self._whole.clear()
