"""The pause switches: no rows of their own, each is what the last event of its stream says."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.events import PostgresEvents
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import EVENT_COLUMNS
from tamma.core.errors import TransientError
from tamma.core.event import Event, Fact, WorkPaused, WorkResumed
from tamma.core.ids import IssueRef
from tamma.core.pause import EVERYWHERE, Pause, pause_stream, repository_scope
from tamma.ports.store import Condition

# The names of the streams begin so: the next character after ":" ends the range.
_ALL: Final = f"""SELECT DISTINCT ON (stream) {EVENT_COLUMNS} FROM event WHERE stream > 'pause:' AND stream < 'pause;'
    ORDER BY stream, version DESC"""
_LAST: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE stream = %(stream)s ORDER BY version DESC LIMIT 1"
_SWITCH_TRIES: Final = 20
_TYPES: Final = (WorkPaused.TYPE, WorkResumed.TYPE)


class PostgresPauses:
    """``ports.store.Pauses``."""

    def __init__(self, pool: Pool, events: PostgresEvents) -> None:
        self._pool = pool
        self._events = events

    def all(self) -> Sequence[Pause]:
        """Those in force, the widest first."""
        found = (_pause_of(rows.event_of(row)) for row in self._pool.all(_ALL))
        return sorted((pause for pause in found if pause), key=lambda pause: (pause.scope != EVERYWHERE, pause.scope))

    def of(self, ref: IssueRef) -> Pause | None:
        """The one that holds an issue's work back."""
        for scope in (EVERYWHERE, repository_scope(ref)):
            last = self._last(scope)
            if last is not None and (pause := _pause_of(last)):
                return pause
        return None

    def pause(self, scope: str, *, by: str, reason: str) -> bool:
        """False if it was on already."""
        return self._switch(scope, WorkPaused(scope=scope, by=by, reason=reason), is_wanted=lambda pause: pause is None)

    def resume(self, scope: str, *, by: str) -> bool:
        """False if it was off already."""
        return self._switch(scope, WorkResumed(scope=scope, by=by), is_wanted=lambda pause: pause is not None)

    def _switch(self, scope: str, fact: Fact, *, is_wanted: Callable[[Pause | None], bool]) -> bool:
        """On condition that nobody was at the switch since we looked; then look again."""
        tags = (pause_stream(scope), *(() if scope == EVERYWHERE else (f"repo:{scope}",)))
        for _ in range(_SWITCH_TRIES):
            last = self._last(scope)
            if not is_wanted(_pause_of(last) if last else None):
                return False
            unless = Condition(types=_TYPES, tags=tags[:1], after=last.position if last else 0)
            if self._events.append(fact, stream=pause_stream(scope), tags=tags, unless=unless) is not None:
                return True
        raise TransientError(
            "the pause cannot be switched", why="others switch it all the time", fix="try again; see: tamma status"
        )

    def _last(self, scope: str) -> Event | None:
        row = self._pool.one(_LAST, {"stream": rows.text(pause_stream(scope))})
        return None if row is None else rows.event_of(row)


def _pause_of(event: Event) -> Pause | None:
    fact = event.fact
    if not isinstance(fact, WorkPaused):
        return None
    return Pause(scope=fact.scope, by=fact.by, reason=fact.reason, since=event.at)
