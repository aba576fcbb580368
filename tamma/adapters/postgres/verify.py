"""Is the log whole, and do the tables say what it says? Read in one snapshot, beside running workers.

Three proofs: each stream is a chain without holes, up to the head that its row carries; the fold of the log is what the
tables hold; and every rule below finds no row. Where events went to an archive, chain and fold go on from their anchor.
Heads that were exported earlier prove that nobody wrote a history anew.
"""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.anchors import ALL, LATEST, Connection, Streams, held
from tamma.adapters.postgres.archived import check_archives
from tamma.adapters.postgres.connect import PATIENT, connect_raw, translate_errors
from tamma.adapters.postgres.sql import EFFECT_COLUMNS, EVENT_COLUMNS, IS_LIVE, TASK_COLUMNS, WORKER_COLUMNS
from tamma.core.effect import Effect, EffectState
from tamma.core.errors import TammaError
from tamma.core.event import task_stream, worker_stream
from tamma.core.fold import VOLATILE, Folder, Tables
from tamma.core.ids import TaskId, WorkerId
from tamma.core.task import Task
from tamma.core.worker import WorkerRecord

_BATCH: Final = 2_000
_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_LINKS: Final = f"""SELECT stream, version, position, CASE
        WHEN version <= archived THEN 'it went to an archive up to version ' || archived || ', and is here again'
        WHEN version <> before + 1 THEN 'version ' || before + 1 || ' is missing before it'
        WHEN position <= position_before THEN 'it stands before version ' || before || ' in the log'
        WHEN hash <> tamma_chain(hash_before, stream, version, position, type, tags, correlation, at, data)
            THEN 'it is not what was written, or not where: its hash does not follow from version ' || before END AS trouble
    FROM (SELECT event.*, a.version AS archived, coalesce(lag(event.version) OVER s, a.version, 0) AS before,
                 coalesce(lag(event.hash) OVER s, a.hash, '') AS hash_before,
                 coalesce(lag(event.position) OVER s, a.position) AS position_before
          FROM event LEFT JOIN ({LATEST}) AS a ON a.stream = event.stream WHERE {{where}}
          WINDOW s AS (PARTITION BY event.stream ORDER BY event.version)) AS linked"""
_BROKEN: Final = (
    f"SELECT stream, version, position, trouble FROM ({_LINKS}) AS l WHERE trouble IS NOT NULL ORDER BY 1, 2"
)
# An anchor is where a stream stands, until it goes on.
_STANDS: Final = "SELECT stream, version, hash FROM event UNION ALL SELECT stream, version, hash FROM anchor"
_HEADS: Final = f"SELECT DISTINCT ON (stream) stream, version, hash FROM ({_STANDS}) AS s WHERE {{where}} ORDER BY stream, version DESC"
_ALL_HEADS: Final = _HEADS.format(where="true")
_ROWS: Final = """SELECT 'task:' || id AS stream, version, head FROM task
    UNION ALL SELECT 'worker:' || id, version, head FROM worker"""
_LOOSE: Final = f"""SELECT r.stream, CASE
        WHEN h.stream IS NULL THEN 'the log has none of its ' || r.version || ' events'
        WHEN h.version < r.version THEN 'its last events are missing: the log ends at version ' || h.version || ', its row at ' || r.version
        WHEN h.version > r.version THEN 'its row is at version ' || r.version || ', the log goes on to ' || h.version
        ELSE 'its row carries another hash than its last event' END
    FROM ({_ROWS}) AS r LEFT JOIN ({_ALL_HEADS}) AS h USING (stream)
    WHERE (h.version, h.hash) IS DISTINCT FROM (r.version, r.head)
    UNION ALL SELECT DISTINCT stream, 'it has events, but no row' FROM event
    WHERE (stream LIKE 'task:%%' OR stream LIKE 'worker:%%') AND stream NOT IN (SELECT stream FROM ({_ROWS}) AS r) ORDER BY 1"""
_WITHOUT_ROWS: Final = """SELECT stream, max(version) FROM event
    WHERE stream NOT LIKE 'task:%' AND stream NOT LIKE 'worker:%' GROUP BY stream"""
_AT: Final = f"SELECT hash FROM ({_STANDS}) AS s WHERE stream = %(stream)s AND version = %(version)s"
_IS_ANCHORED: Final = "SELECT tamma_is_anchored(%(stream)s, %(version)s)"

_LOG: Final = f"SELECT {EVENT_COLUMNS} FROM event WHERE {{where}} ORDER BY position"

# Each finds what must not be, by SQL alone.
RULES: Final[Mapping[str, str]] = {
    "one live task for an issue": f"""SELECT 'issue:' || forge || '/' || repository || '#' || issue FROM task WHERE {IS_LIVE}
        GROUP BY forge, repository, issue, kind HAVING count(*) > 1""",
    "a running task has a worker and a lease, no other has": """SELECT 'task:' || id FROM task
        WHERE (state = 'running', state = 'running') <> (worker IS NOT NULL, lease_expires_at IS NOT NULL)""",
    "a delivered task names its change": """SELECT 'task:' || id FROM task WHERE outcome = 'delivered' AND change IS NULL""",
    "one finished effect of a kind for a task and attempt": f"""SELECT 'task:' || task_id FROM effect
        WHERE state = '{EffectState.DONE}' AND kind IN ('push', 'change') GROUP BY task_id, kind, epoch HAVING count(*) > 1""",
    "an effect was intended before it was recorded": """SELECT e.stream || ' version ' || e.version FROM event AS e
        WHERE e.type = 'EFFECT.RECORD.SUCCEEDED' AND NOT EXISTS (SELECT FROM event AS i WHERE i.stream = e.stream
            AND i.type = 'EFFECT.INTEND.SUCCEEDED' AND i.data ->> 'key' = e.data ->> 'key' AND i.version < e.version)
            AND NOT EXISTS (SELECT FROM anchor AS a WHERE a.stream = e.stream
                AND a.held -> 'effects' @> jsonb_build_array(jsonb_build_object('key', e.data ->> 'key')))""",
    "no attempt writes after a later one began": """SELECT stream || ' version ' || version FROM
        (SELECT stream, version, type, (data ->> 'epoch')::int AS epoch,
                max((data ->> 'epoch')::int) FILTER (WHERE type = 'TASK.CLAIM.SUCCEEDED')
                    OVER (PARTITION BY stream ORDER BY version) AS newest
         FROM event WHERE stream LIKE 'task:%%') AS told WHERE epoch < newest""",
    "each claim is of the next attempt": """SELECT stream || ' version ' || version FROM
        (SELECT stream, version, (data ->> 'epoch')::int AS epoch, row_number() OVER (PARTITION BY stream ORDER BY version) AS n
         FROM event WHERE type = 'TASK.CLAIM.SUCCEEDED') AS claimed WHERE epoch <> n""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a stream stood: its last version and that event's hash, hexadecimal."""

    stream: str
    version: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong, and where: a stream, with the version and the position of the event if it is about one."""

    where: str
    what: str

    @property
    def stream(self) -> str:
        """The stream that it is about."""
        return self.where.split(" ", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at, and every problem found."""

    events: int
    streams: int
    rules: int
    problems: tuple[Problem, ...]
    archives: int = 0
    archived: int = 0


def verify(url: str, *, heads: Collection[Head] = (), archive: Path | None = None) -> Report:
    """Check chain, fold and rules; ``heads`` are earlier ones, all of which the log must still contain, ``archive`` is the folder where
    its archives lie, each of which is then held against its anchors.

    Raises TransientError when the database is away.
    """
    with (
        translate_errors(),
        connect_raw(url, application_name="tamma verify", timeouts=PATIENT) as connection,
        connection.transaction(),
    ):
        connection.execute(_SNAPSHOT)
        return _report(connection, heads, archive)


def heads(url: str) -> list[Head]:
    """The head of every stream, by name."""
    with translate_errors(), connect_raw(url, application_name="tamma heads", timeouts=PATIENT) as connection:
        return [Head(stream=s, version=v, hash=bytes(h).hex()) for s, v, h in connection.execute(_ALL_HEADS)]


def check_streams(connection: Connection, heads: Mapping[str, tuple[int, bytes]]) -> list[Problem]:
    """What is wrong with the chain or the fold of these streams, whose rows carry these heads; in the caller's snapshot."""
    streams = Streams(names=heads)
    found = connection.execute(_HEADS.format(where=streams.where("stream")), streams.parameters)
    stands = {s: (v, bytes(h)) for s, v, h in found}
    loose = [Problem(where=s, what="its row carries another head") for s in heads if stands.get(s) != heads[s]]
    return [*_broken(connection, streams), *loose, *_unfolded(connection, streams)]


def _broken(connection: Connection, streams: Streams = ALL) -> list[Problem]:
    found = connection.execute(_BROKEN.format(where=streams.where("event.stream")), streams.parameters)
    return [Problem(where=f"{s} version {v} (position {p})", what=what) for s, v, p, what in found]


def _report(connection: Connection, earlier: Collection[Head], folder: Path | None) -> Report:
    broken = _broken(connection)
    loose = [Problem(where=stream, what=what) for stream, what in connection.execute(_LOOSE)]
    counted = connection.execute("SELECT count(*), count(DISTINCT stream) FROM event").fetchone()
    assert counted is not None
    archived = check_archives(connection, folder, {head.stream for head in earlier})
    problems = [
        *broken,
        *loose,
        *(Problem(where=where, what=what) for where, what in archived.problems),
        *_rewritten(connection, earlier, archived.hashes),
        *_unfolded(connection),
        *_against_rules(connection),
    ]
    return Report(
        events=counted[0],
        streams=counted[1],
        rules=len(RULES),
        problems=tuple(problems),
        archives=archived.archives,
        archived=archived.events,
    )


def _rewritten(
    connection: Connection, earlier: Collection[Head], archived: Mapping[tuple[str, int], str]
) -> Iterator[Problem]:
    """Of a head between two anchors only the archive itself can tell."""
    for head in sorted(earlier, key=lambda head: (head.stream, head.version, head.hash)):
        asked = {"stream": head.stream, "version": head.version}
        row = connection.execute(_AT, asked).fetchone()
        found = archived.get((head.stream, head.version)) if row is None else bytes(row[0]).hex()
        if found is None:
            if connection.execute(_IS_ANCHORED, asked).fetchone() != (True,):
                yield Problem(where=head.stream, what=f"version {head.version}, whose hash was exported, is gone")
        elif found != head.hash:
            yield Problem(
                where=f"{head.stream} version {head.version}", what="it differs from the hash that was exported"
            )


def _unfolded(connection: Connection, streams: Streams = ALL) -> Iterator[Problem]:
    """Where the log cannot have happened, and where the tables differ from what it tells."""
    folder = Folder(held(connection, streams))
    lost: set[str] = set()
    with connection.cursor(name="whole_log") as cursor:
        cursor.itersize = _BATCH
        for row in cursor.execute(_LOG.format(where=streams.where("stream")), streams.parameters):
            stream, version, position = row[1], row[2], row[0]
            if stream in lost:
                continue
            try:
                folder.apply(rows.event_of(row))
            except (TammaError, AssertionError, KeyError, ValueError) as error:
                lost.add(stream)
                yield Problem(
                    where=f"{stream} version {version} (position {position})", what=f"it cannot follow: {error}"
                )
    yield from _differing(folder.tables, read_tables(connection, streams), lost)


def _differing(told: Tables, held: Tables, lost: set[str]) -> Iterator[Problem]:
    """Row by row; a row whose stream is broken was named already."""
    for part in ("tasks", "effects", "workers"):
        ours, theirs = getattr(told, part), getattr(held, part)
        for key in sorted({*ours, *theirs}):
            stream = _stream_of(part, key, ours.get(key) or theirs.get(key))
            if ours.get(key) != theirs.get(key) and stream not in lost:
                where = f"{stream} effect {key}" if part == "effects" else stream
                yield Problem(where=where, what=f"the table says {theirs.get(key)}, the log {ours.get(key)}")


def _stream_of(part: str, key: str, row: Effect | Task | WorkerRecord) -> str:
    if isinstance(row, Effect):
        return task_stream(row.task_id)
    return task_stream(TaskId(key)) if part == "tasks" else worker_stream(WorkerId(key))


def _against_rules(connection: Connection) -> Iterator[Problem]:
    for rule, statement in RULES.items():
        for (where,) in connection.execute(statement):
            yield Problem(where=where, what=f"against the rule: {rule}")


def read_tables(connection: Connection, streams: Streams = ALL) -> Tables:
    """What the tables hold without their volatile columns, in the caller's transaction."""

    def read(columns: str, table: str, key: str, named: str) -> list[rows.Row]:
        where = streams.where(key, named=named)
        return connection.execute(f"SELECT {columns} FROM {table} WHERE {where}", streams.parameters).fetchall()

    tasks = [rows.task_of(row) for row in read(TASK_COLUMNS, "task", "id", "tasks")]
    effects = [rows.effect_of(row) for row in read(EFFECT_COLUMNS, "effect", "task_id", "tasks")]
    listed = read(f"{_quiet(WORKER_COLUMNS)}, version", "worker", "id", "workers")
    versions = {task_stream(task.id): task.version for task in tasks}
    if streams == ALL:
        versions |= dict(connection.execute(_WITHOUT_ROWS).fetchall())
    return Tables(
        tasks={task.id: task for task in tasks},
        effects={effect.key: effect for effect in effects},
        workers={row[0]: rows.worker_of(row[:-1]) for row in listed},
        versions=versions | {worker_stream(row[0]): row[-1] for row in listed},
    )


def _quiet(columns: str) -> str:
    """The columns with NULL for the volatile ones."""
    volatile = set().union(*VOLATILE.values())
    return ", ".join(f"NULL AS {name}" if name in volatile else name for name in columns.split(", "))
