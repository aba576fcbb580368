"""The pause switch: while it is on, nothing is shown outside and no attempt begins; what runs waits with what it has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tamma.core.errors import TransientError
from tamma.core.ids import IssueRef
from tamma.core.moment import local

EVERYWHERE: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Who holds work back, where (``EVERYWHERE`` or ``FORGE/REPOSITORY``), since when and why."""

    scope: str
    by: str
    reason: str
    since: datetime

    def __str__(self) -> str:
        """As a person is told."""
        where = "" if self.scope == EVERYWHERE else f" in {self.scope}"
        why = f": {self.reason}" if self.reason else ""
        return f"work is paused{where} by {self.by} since {local(self.since)}{why}"

    @property
    def fix(self) -> str:
        """How to end it."""
        repository = "" if self.scope == EVERYWHERE else f" {self.scope.partition('/')[2]}"
        return f"`tamma resume{repository}` lets it go on"


class Paused(TransientError):
    """Nothing may be begun now."""

    def __init__(self, pause: Pause) -> None:
        super().__init__(str(pause), fix=pause.fix)


def repository_scope(ref: IssueRef) -> str:
    """Where an issue's work is paused with its repository."""
    return f"{ref.forge}/{ref.repository}"


def pause_stream(scope: str) -> str:
    """The stream of one switch."""
    return f"pause:{scope}"
