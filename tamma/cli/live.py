"""Progress of the loop: a live view for a person in a terminal, plain lines in a pipe, JSON lines on request.

Reads the event log over a connection of its own; the loop does not know that anybody is looking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final

from tamma.cli.ending import put
from tamma.cli.render import event_json, event_line
from tamma.cli.tally import Tally
from tamma.core.errors import TammaError, TransientError
from tamma.core.event import (
    AgentSpoke,
    EffectIntended,
    Event,
    PhaseEntered,
    TaskCancelled,
    TaskClaimed,
    TaskCreated,
    TaskDispatched,
    TaskReaped,
    TaskSettled,
    WorkerRegistered,
    WorkerStateChanged,
)
from tamma.logs import warn
from tamma.ports.store import Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

LAG: Final = timedelta(milliseconds=250)
# Not worth a line of their own in a log that a person reads.
_QUIET: Final = (AgentSpoke, EffectIntended, TaskDispatched, WorkerRegistered, WorkerStateChanged)


class Progress(AbstractContextManager["Progress"]):
    """Follows the log from the moment it is entered until it is left, and then to the log's end; ``tally`` is told of each event."""

    def __init__(self, open_store: Callable[[], Store], *, as_json: bool, tally: Tally | None = None) -> None:
        from rich.console import Console

        self._open_store = open_store
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._view = _LiveView(self._console) if self._console.is_terminal and not as_json else None
        self._cursor: int | None = None
        self._is_read = True
        self._tally = tally
        self._trouble = ""

    def __enter__(self) -> Progress:
        """Start following."""
        store = self._open_store()
        try:
            self._cursor = store.events.head()
        except TransientError as error:  # a display holds up no work; the thread tries again
            warn(f"what happens cannot be shown yet: {error}")
        finally:
            store.close()
        if self._view:
            self._view.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Catch up with the log, then stop."""
        self._left.set()
        self._thread.join(timeout=10)
        if self._view:
            self._view.stop()

    def say(self, line: str) -> None:
        """Something the loop has to tell that is no event; on stderr, so that JSON stays JSON."""
        if self._view:
            self._view.say(line)
        else:
            warn(line)

    def _follow(self) -> None:
        store = self._open_store()
        try:
            while not self._left.is_set():
                self._catch_up(store)
                self._left.wait(LAG.total_seconds())
            self._catch_up(store)
        finally:
            store.close()

    def _catch_up(self, store: Store) -> None:
        try:
            if self._cursor is None:
                self._cursor = store.events.head()
            while True:
                events, self._cursor = store.events.tail(self._cursor)
                for event in events:
                    self._show(event)
                if not events:
                    return
        except TransientError:  # the loop tells about the database; we go on where we were
            return
        except (
            TammaError
        ) as error:  # as for an event of a newer release: the loop goes on, and so does its display, if it can
            if str(error) != self._trouble:
                self._trouble = str(error)
                self.say(f"what happens cannot be shown: {error}")

    def _show(self, event: Event) -> None:
        if self._tally is not None:
            self._tally.add(event)
        if self._view:
            self._view.show(event)
        elif self._is_read and (self._as_json or not isinstance(event.fact, _QUIET)):
            self._is_read = put(event_json(event) if self._as_json else event_line(event))


class _LiveView:
    """What runs now, redrawn in place; what ended, as lines above it. A terminal that is gone is no trouble of the loop's: the
    signal that tells of it is."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._running: dict[str, tuple[str, str]] = {}
        self._titles: dict[str, str] = {}
        self._live: Live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=True)

    def start(self) -> None:
        with suppress(OSError):
            self._live.start()

    def stop(self) -> None:
        with suppress(OSError):
            self._live.stop()

    def say(self, line: str) -> None:
        with suppress(OSError):
            self._console.print(f"! {line}", style="yellow", markup=False)

    def show(self, event: Event) -> None:
        """One event: into the table, and above it unless it is only a step."""
        fact = event.fact
        match fact:
            case TaskCreated():
                self._titles[event.stream] = f"{fact.repository}#{fact.issue} {fact.title}"
            case TaskClaimed():
                self._running[event.stream] = (f"attempt {fact.epoch}", "claimed")
            case PhaseEntered() if event.stream in self._running:
                self._running[event.stream] = (self._running[event.stream][0], fact.phase)
            case AgentSpoke() if event.stream in self._running:
                self._running[event.stream] = (
                    self._running[event.stream][0],
                    f"agent: {fact.text.splitlines()[-1][:60]}",
                )
            case TaskSettled() | TaskReaped() | TaskCancelled():
                self._running.pop(event.stream, None)
            case _:
                pass
        if not isinstance(fact, (*_QUIET, PhaseEntered)):
            with suppress(OSError):
                self._console.print(event_line(event), markup=False)

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        for stream, (attempt, step) in list(self._running.items()):
            table.add_row("▸", self._titles.get(stream, stream), attempt, step)
        return table
