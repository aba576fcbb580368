"""Old events go to files, those of tasks that ended long ago and of workers that left; and the rows that nobody asks for.

The row of an issue's newest task stays, or the issue would be taken again, and so do those of tasks that pushed. Each file
is a transaction of its own: its events are checked, written, on disk under the file's name, and only then deleted, together
with the anchors that stand for them and the event that tells of it. Whatever dies in between, each event is in the log, in
a file that the log names, or in both.
"""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.anchors import LATEST, LINE, Streams
from tamma.adapters.postgres.archive_file import Written, drafted, name_of
from tamma.adapters.postgres.connect import PATIENT, connect_raw, translate_errors
from tamma.adapters.postgres.grants import is_owner
from tamma.adapters.postgres.sql import EFFECT_COLUMNS, IS_RUNNING, TASK_COLUMNS
from tamma.adapters.postgres.verify import Problem, check_streams
from tamma.core.errors import ConfigError
from tamma.core.event import ARCHIVE_STREAM, LogArchived

Connection = psycopg.Connection[rows.Row]

# A file's transaction must be short: readers that tail the log wait for it.
EVENTS_PER_FILE_MAX: Final = 20_000
STREAMS_PER_FILE_MAX: Final = 1_000
_TRIES: Final = 3
_BATCH: Final = 2_000
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '10s'"
_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtextextended('tamma archive', 0))"

_CUTOFF: Final = "(SELECT tamma_now() - %(older_than)s::interval)"
_COUNT: Final = "{0}.version - coalesce((SELECT max(a.version) FROM anchor AS a WHERE a.stream = s.name), 0)"
# The row of an issue's newest task stays, and of those that pushed: a later one may find its branch at what they intended.
# A row that stays is due once: it has no more events then. The newest event counts, not only the end: time travel to any
# later moment must find all that it needs.
_DUE: Final = f"""SELECT s.name, t.version, t.head, NOT is_spare, {_COUNT.format("t")}
    FROM task AS t
        CROSS JOIN LATERAL (SELECT 'task:' || t.id AS name) AS s
        LEFT JOIN event AS e ON e.stream = s.name AND e.version = t.version
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM task AS n WHERE n.forge = t.forge AND n.repository = t.repository
            AND n.issue = t.issue AND n.kind = t.kind AND n.generation > t.generation)
            AND NOT EXISTS (SELECT FROM effect AS f WHERE f.task_id = t.id AND f.kind = 'push') AS is_spare) AS l
    WHERE t.finished_at < {_CUTOFF} AND t.notice IS NULL AND {{tasks}}
        AND (e.at < {_CUTOFF} OR (e.stream IS NULL AND is_spare))
    UNION ALL
    SELECT s.name, w.version, w.head, false, {_COUNT.format("w")}
    FROM worker AS w
        CROSS JOIN LATERAL (SELECT 'worker:' || w.id AS name) AS s
        LEFT JOIN event AS e ON e.stream = s.name AND e.version = w.version
    WHERE w.state IN ('offline', 'gone') AND coalesce(w.last_beat_at, w.registered_at) < {_CUTOFF} AND {{workers}}
        AND coalesce(e.at < {_CUTOFF}, true)
        AND NOT EXISTS (SELECT FROM task AS t WHERE t.{IS_RUNNING} AND t.worker = w.id)
    ORDER BY 1"""
_LOCK_TASKS: Final = "SELECT FROM task WHERE id = ANY(%(tasks)s) ORDER BY id FOR UPDATE"
_LOCK_WORKERS: Final = "SELECT FROM worker WHERE id = ANY(%(workers)s) ORDER BY id FOR UPDATE"

_LINES: Final = f"SELECT {LINE} FROM event WHERE stream = ANY(%(streams)s) ORDER BY stream, version"
_NEXT: Final = f"SELECT coalesce(max(version), 0) + 1 FROM event WHERE stream = '{ARCHIVE_STREAM}'"
_ANCHOR: Final = f"""INSERT INTO anchor (stream, archive, version, hash, position, first, at, held)
    SELECT d.stream, %(archive)s, coalesce(l.version, p.version), coalesce(l.hash, p.hash), coalesce(l.position, p.position),
           coalesce(p.first, f.position), coalesce(l.at, p.at), CASE WHEN d.is_kept THEN jsonb_build_object(
               'task', (SELECT to_jsonb(r) FROM (SELECT {TASK_COLUMNS} FROM task WHERE 'task:' || id = d.stream) AS r),
               'effects', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY key), '[]') FROM
                   (SELECT {EFFECT_COLUMNS} FROM effect WHERE task_id = substr(d.stream, 6)) AS r)) END
    FROM unnest(%(streams)s::text[], %(versions)s::int[], %(kept)s::boolean[]) AS d (stream, version, is_kept)
        LEFT JOIN event AS l ON l.stream = d.stream AND l.version = d.version
        LEFT JOIN event AS f ON f.stream = d.stream AND f.version = 1
        LEFT JOIN ({LATEST}) AS p ON p.stream = d.stream"""
_DELETE: Final = (
    """DELETE FROM event USING anchor AS a WHERE a.archive = %(archive)s AND event.stream = a.stream
       AND event.version <= a.version""",
    "DELETE FROM effect WHERE task_id = ANY(%(tasks_gone)s)",
    "DELETE FROM task WHERE id = ANY(%(tasks_gone)s)",
    "DELETE FROM worker WHERE id = ANY(%(workers)s)",
)
_UNTIL: Final = "SELECT max(at), encode(tamma_anchors(%(archive)s), 'hex') FROM anchor WHERE archive = %(archive)s"
_TELL: Final = f"""SELECT told_version FROM tamma_append('{ARCHIVE_STREAM}', '{LogArchived.TYPE}', ARRAY['{ARCHIVE_STREAM}'], NULL,
    %(data)s::jsonb, '{{}}', ARRAY['{ARCHIVE_STREAM}'], 0)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A stream whose events may go: its head as the row carries it, whether the row stays, and how many events there are."""

    stream: str
    version: int
    head: bytes
    is_kept: bool
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was archived, what is wrong with streams that were therefore left, and how many streams wait for the next run."""

    archived: tuple[LogArchived, ...]
    problems: tuple[Problem, ...]
    left: int


def find_due(url: str, *, older_than: timedelta) -> list[Due]:
    """Everything that an archive of now would take. Reads only. Raises TransientError when the database is away."""
    with translate_errors(), connect_raw(url, application_name="tamma archive", timeouts=PATIENT) as connection:
        return _due(connection, Streams(), older_than=older_than)


def archive(
    url: str, folder: Path, *, older_than: timedelta, files_max: int, reach: Callable[[str], None] = lambda _: None
) -> Run:
    """Archive what ended, and was not touched, for ``older_than``; at most ``files_max`` files. A stream that is not whole stays.

    Raises ConfigError if ``url`` is not the owner's or nothing can be written to ``folder``, TransientError when the database
    is away or the disk full; what is archived by then is.
    """
    archived: list[LogArchived] = []
    problems: list[Problem] = []
    with translate_errors(), connect_raw(url, application_name="tamma archive", timeouts=PATIENT) as connection:
        _require_owner(connection)
        batches = list(_batches(_due(connection, Streams(), older_than=older_than)))
        left = sum(map(len, batches[files_max:]))
        for batch in batches[:files_max]:
            done, found, missed = _archive_batch(connection, folder, batch, older_than=older_than, reach=reach)
            archived += [done] if done else []
            problems += found
            left += missed
    return Run(archived=tuple(archived), problems=tuple(problems), left=left)


def _batches(due: Sequence[Due]) -> Iterator[list[str]]:
    """Streams for one file each: as many as fit, and one at least."""
    batch: list[str] = []
    events = 0
    for one in due:
        if batch and (events + one.events > EVENTS_PER_FILE_MAX or len(batch) >= STREAMS_PER_FILE_MAX):
            yield batch
            batch, events = [], 0
        batch.append(one.stream)
        events += one.events
    if batch:
        yield batch


def _archive_batch(
    connection: Connection, folder: Path, names: list[str], *, older_than: timedelta, reach: Callable[[str], None]
) -> tuple[LogArchived | None, list[Problem], int]:
    """One file, unless none of its streams is due any more; what was wrong, and how many streams are left for another run: what
    changes while it is written makes a file void, and so do some tries."""
    problems: list[Problem] = []
    due: list[Due] = []
    for _ in range(_TRIES):
        reach("archive.before_file")
        with drafted(folder) as draft:
            with connection.transaction():
                connection.execute(_SNAPSHOT)
                due = _due(connection, Streams(names=names), older_than=older_than)
                problems = check_streams(connection, {one.stream: (one.version, one.head) for one in due})
                broken = {problem.stream for problem in problems}
                due = [one for one in due if one.stream not in broken]
                if not due:
                    return None, problems, 0
                written = draft.write(_lines(connection, due))
            reach("archive.after_file")
            with connection.transaction():
                connection.execute(_LOCK_TIMEOUT)
                number = _locked(connection, due, older_than=older_than)
                if number is None:
                    continue
                fact = _replace(connection, due, number, written)
                draft.publish(fact.file)
                reach("archive.after_name")
        reach("archive.after_record")
        return fact, problems, 0
    return None, problems, len(due)


def _due(connection: Connection, streams: Streams, *, older_than: timedelta) -> list[Due]:
    query = _DUE.format(tasks=streams.where("t.id", named="tasks"), workers=streams.where("w.id", named="workers"))
    found = connection.execute(query, {**streams.parameters, "older_than": older_than})
    return [Due(stream=s, version=v, head=bytes(h), is_kept=k, events=n) for s, v, h, k, n in found]


def _lines(connection: Connection, due: Sequence[Due]) -> Iterator[str]:
    with connection.cursor(name="old_events") as cursor:
        cursor.itersize = _BATCH
        for (line,) in cursor.execute(_LINES, {"streams": [one.stream for one in due]}):
            yield line


def _locked(connection: Connection, due: Sequence[Due], *, older_than: timedelta) -> int | None:
    """The number of this archive, with the rows locked as they were read; None if something about them has changed."""
    streams = Streams(names=[one.stream for one in due])
    connection.execute(_ONE_AT_A_TIME)
    connection.execute(_LOCK_TASKS, streams.parameters)
    connection.execute(_LOCK_WORKERS, streams.parameters)
    if _due(connection, streams, older_than=older_than) != list(due):
        return None
    row = connection.execute(_NEXT).fetchone()
    assert row is not None
    return int(row[0])


def _replace(connection: Connection, due: Sequence[Due], number: int, written: Written) -> LogArchived:
    """Anchors for events, and the event that tells of it, in the caller's transaction."""
    connection.execute("SET LOCAL TimeZone = 'UTC'")
    gone = Streams(names=[one.stream for one in due if not one.is_kept]).parameters
    values: dict[str, Any] = {
        "archive": number,
        "streams": [one.stream for one in due],
        "versions": [one.version for one in due],
        "kept": [one.is_kept for one in due],
        "tasks_gone": gone["tasks"],
        "workers": gone["workers"],
    }
    assert connection.execute(_ANCHOR, values).rowcount == len(due)
    row = connection.execute(_UNTIL, values).fetchone()
    assert row is not None
    deleted = [connection.execute(statement, values).rowcount for statement in _DELETE]
    assert deleted[0] == written.lines, (deleted, written)
    fact = LogArchived(
        file=name_of(number, written.sha256),
        sha256=written.sha256,
        anchors=row[1],
        streams=len(due),
        events=written.lines,
        tasks_removed=len(gone["tasks"]),
        workers_removed=len(gone["workers"]),
        until=rows.utc(row[0]),
    )
    told = connection.execute(_TELL, {"data": rows.data_of(fact)}).fetchone()
    assert told == (number,), told
    return fact


def _require_owner(connection: Connection) -> None:
    if not is_owner(connection):
        raise ConfigError(
            "only the owner of the log may archive",
            why="this role may add events, and remove none",
            fix="run it with the DATABASE_URL of the role that ran `tamma db upgrade`",
        )
