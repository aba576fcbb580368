"""Is what went to archives what the log says of it: anchors against the events that tell of them, files against both."""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from tamma.adapters.postgres.anchors import Connection, archives
from tamma.adapters.postgres.archive_file import digest, lines_of
from tamma.core.event import ARCHIVE_STREAM, LogArchived

_DIGEST: Final = "SELECT encode(tamma_anchors(%(archive)s), 'hex')"
_UNTOLD: Final = f"""SELECT archive, count(*) FROM anchor WHERE archive NOT IN
    (SELECT version FROM event WHERE stream = '{ARCHIVE_STREAM}') GROUP BY archive ORDER BY archive"""
_TOLD: Final = """SELECT line ->> 'stream' AS stream, (line ->> 'version')::int AS version,
        (line ->> 'position')::bigint AS position, line ->> 'type' AS type,
        ARRAY(SELECT jsonb_array_elements_text(line -> 'tags')) AS tags, line ->> 'correlation' AS correlation,
        (line ->> 'at')::timestamptz AS at, line -> 'data' AS data, decode(line ->> 'hash', 'hex') AS hash
    FROM (SELECT text::jsonb AS line FROM unnest(%(lines)s::text[]) AS text) AS read"""
_BEFORE: Final = "SELECT DISTINCT ON (stream) * FROM anchor WHERE archive < %(archive)s ORDER BY stream, archive DESC"
_CHAINED: Final = f"""SELECT stream, version, position, CASE
        WHEN version <> before + 1 THEN 'version ' || before + 1 || ' is missing before it'
        WHEN hash IS DISTINCT FROM tamma_chain(hash_before, stream, version, position, type, tags, correlation, at, data)
            THEN 'it is not what was written: its hash does not follow from version ' || before END AS trouble
    FROM (SELECT told.*, coalesce(lag(told.version) OVER s, a.version, 0) AS before,
                 coalesce(lag(told.hash) OVER s, a.hash, '') AS hash_before
          FROM told LEFT JOIN ({_BEFORE}) AS a ON a.stream = told.stream
          WINDOW s AS (PARTITION BY told.stream ORDER BY told.version)) AS linked"""
# With the ends: a stream of this archive that has events ends where its anchor says, and no other is in it.
_TROUBLES: Final = f"""WITH told AS MATERIALIZED ({_TOLD}), ends AS
        (SELECT DISTINCT ON (stream) stream, version, hash FROM
            (SELECT stream, version, hash FROM told UNION ALL SELECT stream, version, hash FROM ({_BEFORE}) AS b) AS s
         ORDER BY stream, version DESC)
    SELECT stream || ' version ' || version || ' (position ' || position || ')', trouble FROM ({_CHAINED}) AS c
    WHERE trouble IS NOT NULL
    UNION ALL SELECT a.stream, 'it ends at version ' || coalesce(e.version, 0) || ', its anchor says ' || a.version
    FROM anchor AS a LEFT JOIN ends AS e ON e.stream = a.stream
    WHERE a.archive = %(archive)s AND (e.version, e.hash) IS DISTINCT FROM (a.version, a.hash)
    UNION ALL SELECT DISTINCT told.stream, 'no anchor of this archive stands for it' FROM told
    WHERE told.stream NOT IN (SELECT stream FROM anchor WHERE archive = %(archive)s) ORDER BY 1"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """How many archives and events were looked at, what is wrong (where, what), and the hashes of wanted streams' events."""

    archives: int
    events: int
    problems: tuple[tuple[str, str], ...]
    hashes: Mapping[tuple[str, int], str]


def check_archives(connection: Connection, folder: Path | None, wanted: Collection[str]) -> Archived:
    """Anchors against the log, in the caller's snapshot; with ``folder`` the files in it too."""
    told = archives(connection)
    problems: list[tuple[str, str]] = []
    hashes: dict[tuple[str, int], str] = {}
    for number, _, fact in told:
        row = connection.execute(_DIGEST, {"archive": number}).fetchone()
        if row != (fact.anchors,):
            problems.append((f"{ARCHIVE_STREAM} version {number}", "its anchors are not those that were written"))
        if folder is not None:
            problems += _of_file(connection, folder, number, fact, wanted, hashes)
    problems += [
        (f"{ARCHIVE_STREAM} version {number}", f"{count} anchors name it, and the log has no such archive")
        for number, count in connection.execute(_UNTOLD)
    ]
    return Archived(
        archives=len(told),
        events=sum(fact.events for _, _, fact in told),
        problems=tuple(problems),
        hashes=hashes,
    )


def _of_file(
    connection: Connection,
    folder: Path,
    number: int,
    fact: LogArchived,
    wanted: Collection[str],
    hashes: dict[tuple[str, int], str],
) -> Iterator[tuple[str, str]]:
    """A file that is not the one that was written is read all the same: what differs in it has a name."""
    path = folder / fact.file
    try:
        if digest(path) != fact.sha256:
            yield fact.file, "it is not the file that was written: its SHA-256 differs"
        lines = lines_of(path) if fact.events else []
    except (OSError, EOFError, ValueError) as error:
        yield fact.file, f"it cannot be read: {error}"
        return
    sound: list[str] = []
    for place, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            stream, version = str(event["stream"]), int(event["version"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            yield f"{fact.file} line {place}", f"it is no event: {error!r}"
            continue
        sound.append(line)
        if stream in wanted:
            hashes[stream, version] = str(event["hash"])
    try:
        with connection.transaction():  # a savepoint: what Postgres cannot read must not end the caller's snapshot
            found = connection.execute(_TROUBLES, {"lines": sound, "archive": number}).fetchall()
    except psycopg.DataError as error:
        yield fact.file, f"it holds what is no event: {' '.join(str(error).split())}"
        return
    for where, what in found:
        yield f"{where} in {fact.file}", what
