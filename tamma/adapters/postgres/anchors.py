"""Anchors: what is left in the database of events that went to an archive. The chain and the fold go on from them."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.sql import EFFECT_COLUMNS, EVENT_COLUMNS, TASK_COLUMNS, iso
from tamma.core.event import ARCHIVE_STREAM, LogArchived, task_stream
from tamma.core.fold import Tables

Connection = psycopg.Connection[rows.Row]

# One for each stream: a later archive of the same stream goes on where the one before it ended.
LATEST: Final = "SELECT DISTINCT ON (stream) * FROM anchor ORDER BY stream, archive DESC"
_HELD: Final = "SELECT DISTINCT ON (stream) * FROM anchor WHERE {where} ORDER BY stream, archive DESC"
_TASKS: Final = f"""SELECT {TASK_COLUMNS} FROM
    (SELECT t.* FROM ({_HELD}) AS a, jsonb_populate_record(NULL::task, a.held -> 'task') AS t WHERE held IS NOT NULL) AS h"""
_EFFECTS: Final = f"""SELECT {EFFECT_COLUMNS} FROM
    (SELECT e.* FROM ({_HELD}) AS a, jsonb_populate_recordset(NULL::effect, a.held -> 'effects') AS e) AS h"""
_ARCHIVES: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE stream = '{ARCHIVE_STREAM}' ORDER BY version"

ARCHIVED_IN: Final = f"""SELECT data ->> 'file' FROM anchor JOIN event ON event.stream = '{ARCHIVE_STREAM}'
    AND event.version = anchor.archive WHERE anchor.stream = %(stream)s ORDER BY anchor.archive DESC LIMIT 1"""

# An event as a line of an archive; what is hashed is all in it, and Postgres reads it back as it was.
LINE: Final = f"""jsonb_build_object('stream', stream, 'version', version, 'position', position, 'type', type, 'tags', tags,
    'correlation', correlation, 'at', {iso("at")}, 'data', data, 'hash', encode(hash, 'hex'))::text"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Some streams of tasks and workers, or (None) all there are."""

    names: Collection[str] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """For statements with ``where``."""
        if self.names is None:
            return {}
        ids = {kind: [n.removeprefix(kind) for n in self.names if n.startswith(kind)] for kind in ("task:", "worker:")}
        return {"streams": list(self.names), "tasks": ids["task:"], "workers": ids["worker:"]}

    def where(self, column: str, *, named: str = "streams") -> str:
        """The condition on a column that holds the stream's name, or (``named``) the id of its task or worker."""
        return "true" if self.names is None else f"{column} = ANY(%({named})s::text[])"


ALL: Final = Streams()


def held(connection: Connection, streams: Streams = ALL) -> Tables:
    """What archived events came to for the rows that are still there: the fold of the log begins with it."""
    where, asked = streams.where("stream"), streams.parameters
    tasks = [rows.task_of(row) for row in connection.execute(_TASKS.format(where=where), asked)]
    effects = [rows.effect_of(row) for row in connection.execute(_EFFECTS.format(where=where), asked)]
    return Tables(
        tasks={task.id: task for task in tasks},
        effects={effect.key: effect for effect in effects},
        versions={task_stream(task.id): task.version for task in tasks},
    )


def archives(connection: Connection) -> list[tuple[int, datetime, LogArchived]]:
    """Every archive that was made: its number, when, and what it says."""
    events = [rows.event_of(row) for row in connection.execute(_ARCHIVES)]
    return [(event.version, event.at, event.fact) for event in events if isinstance(event.fact, LogArchived)]
