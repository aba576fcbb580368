"""A backup: every table of one moment in one file, checked as it is written and again as it is read.

The file is a ZIP: a member ``TABLE.copy`` for each table (what ``COPY … TO STDOUT`` gives, rows by their key) and, written
last, ``manifest.json`` with the schema's revision and each table's columns, rows and SHA-256. It needs no client programs
and goes into any Postgres that Tamma runs on. It holds all texts and patches, so only its owner may read it.
"""
# ruff: noqa: S608 — SQL is put together from constants of this package only

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final
from uuid import uuid4

import psycopg
from psycopg import sql

from tamma.adapters.postgres import migrate, rows
from tamma.adapters.postgres.connect import PATIENT, connect_raw, translate_errors, with_database
from tamma.adapters.postgres.drafts import draft_at, publish
from tamma.adapters.postgres.revision import HEAD
from tamma.adapters.postgres.verify import Report, verify
from tamma.core.errors import PASSING, ConfigError, TransientError, of_os_error, remedy
from tamma.core.redact import clean

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_MANIFEST_BYTES_MAX: Final = 1_000_000
_CHUNK_BYTES: Final = 1 << 20
# In an order that foreign keys allow. What is left out: whose transaction wrote a row, which means nothing elsewhere.
_TABLES: Final[Mapping[str, str]] = {
    "task": "id",
    "event": "position",
    "anchor": "stream, archive",
    "effect": "key",
    "worker": "id",
    "blob": "id",
    "baseline": "key",
}
# In which revision a table came that an older backup does not have.
_SINCE: Final[Mapping[str, str]] = {"anchor": "0004"}
_LEFT_OUT: Final = frozenset({("event", "xid")})
_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_PLAIN: Final = ("SET TimeZone = 'UTC'", "SET DateStyle = 'ISO'", "SET bytea_output = 'hex'")
_COLUMNS: Final = """SELECT attname FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attnum > 0
    AND NOT attisdropped ORDER BY attnum"""

_WRONG_COLUMNS: Final = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.SyntaxError,
)
_REVISION: Final = re.compile("[0-9a-f]{4,32}")

Connection = psycopg.Connection[rows.Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCopy:
    """One table in the file."""

    columns: tuple[str, ...]
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds, and of when."""

    taken_at: str
    revision: str
    tables: Mapping[str, TableCopy]

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables.values())


def take(url: str, target: Path) -> Manifest:
    """Write a backup of this moment to ``target``, beside whoever works; the name appears only when the file is whole.

    Raises ConfigError if the file cannot be made or the schema is not current, TransientError when the database is away.
    """
    migrate.require_current(url)
    with (
        _made_whole(target) as unfinished,
        zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        with (
            translate_errors(),
            connect_raw(url, application_name="tamma backup", timeouts=PATIENT) as connection,
            connection.transaction(),
        ):
            connection.execute(_SNAPSHOT)
            for setting in _PLAIN:
                connection.execute(setting)
            moment = connection.execute("SELECT tamma_now()").fetchone()
            assert moment is not None
            tables = {name: _copy_out(connection, archive, name) for name in _TABLES}
        manifest = Manifest(taken_at=rows.utc(moment[0]).isoformat(), revision=HEAD, tables=tables)
        archive.writestr(_MANIFEST, json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1))
    return manifest


def put_back(url: str, source: Path) -> Manifest:
    """Load a backup into a database without rows, and bring the schema up to date.

    One transaction: all or nothing. Raises ConfigError if the file is none of ours or is damaged, or the database is in
    use; TransientError when it is away.
    """
    with _opened(source) as archive:
        manifest = _read_manifest(archive, source)
        _require_unused(url, manifest.tables)
        migrate.upgrade(url, manifest.revision)
        with (
            translate_errors(),
            connect_raw(url, application_name="tamma restore", timeouts=PATIENT) as connection,
            connection.transaction(),
        ):
            for setting in _PLAIN:
                connection.execute(setting)
            _require_empty(connection, manifest.tables)
            for name, told in manifest.tables.items():
                _copy_in(connection, archive, name, told, source)
            connection.execute(
                "SELECT setval('event_position_seq', greatest((SELECT max(position) FROM event), 1), "
                "EXISTS (SELECT FROM event))"
            )
    migrate.upgrade(url)
    return manifest


def require_whole(source: Path) -> None:
    """Read all of a backup, and touch nothing. Raises ConfigError unless each table is what was written."""
    with _opened(source) as archive:
        for name, told in _read_manifest(archive, source).tables.items():
            for _ in _content(archive, name, told, source):
                pass


def prove(url: str, source: Path) -> Report:
    """Load a backup into a scratch database on the server at ``url``, verify the log there, and drop it again.

    Raises ConfigError if the role may not create a database, and what ``put_back`` raises.
    """
    with translate_errors(), connect_raw(url, application_name="tamma restore", timeouts=PATIENT) as connection:
        _drop_dead_proofs(connection)
        name = f"{_proofs_of(connection)}{uuid4().hex[:12]}"
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])
        try:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
            )
        except psycopg.errors.InsufficientPrivilege:
            raise ConfigError(
                "the backup cannot be proven here",
                why="this role may not create a database to restore into",
                fix=f"try it elsewhere: DATABASE_URL=… tamma db restore {source}",
            ) from None
        try:
            scratch = with_database(url, name)
            put_back(scratch, source)
            return verify(scratch)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _proofs_of(connection: psycopg.Connection[Any]) -> str:
    """How the scratch databases of proofs that were begun from this database are called; a proof locks its name here."""
    row = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return f"tamma_proof_{row[0]}_"


def _drop_dead_proofs(connection: psycopg.Connection[Any]) -> None:
    """What killed proofs left: nobody holds their name."""
    found = connection.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [_proofs_of(connection)]
    ).fetchall()
    for (name,) in found:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name]).fetchone()
        if row is not None and row[0]:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A file beside ``target`` that takes its name when all is on disk, and is gone if anything fails. A link stays, and what
    it points at is replaced."""
    target = Path(os.path.realpath(target))
    if target.exists() and not target.is_file():
        raise ConfigError(
            f"{target} cannot be written",
            why="it is not a regular file, and a backup takes the place of what it is named after",
            fix="name a file in a folder with room",
        )
    if target.exists() and target.stat().st_size and not _is_a_backup(target):
        raise ConfigError(
            f"{target} is not replaced",
            why="it is there, and it is no backup",
            fix="name another file, or remove this one",
        )
    if not target.parent.is_dir():
        raise ConfigError(f"{target} cannot be written", why=f"there is no folder {target.parent}", fix="make it first")
    unfinished = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
    try:
        with draft_at(unfinished, like=f".{glob.escape(target.name)}.{'[0-9a-f]' * 8}"):
            yield unfinished
            publish(unfinished, target)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in PASSING:
            fix = f"{remedy(error.errno)}, or name a file in a folder with room"
            raise TransientError(f"{target} cannot be written", why=why, fix=fix) from error
        raise ConfigError(
            f"{target} cannot be written", why=why, fix="name a file that Tamma's user may write to"
        ) from error


def _is_a_backup(path: Path) -> bool:
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        return _MANIFEST in archive.namelist()
    return False


@contextmanager
def _opened(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        if not source.is_file():
            why = "it is no regular file" if source.exists() else "there is no such file"
            raise ConfigError(f"{source} is no backup", why=why, fix="name a file of `tamma db backup`")
        with zipfile.ZipFile(source) as archive:
            yield archive
    except OSError as error:
        if (told := of_os_error(error, doing=f"reading {source}")) is None:
            raise _damaged(source, str(error)) from error
        raise told from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _damaged(source, str(error)) from error


def _member(archive: zipfile.ZipFile, name: str, source: Path) -> IO[bytes]:
    try:
        return archive.open(name)
    except RuntimeError as error:  # encrypted, or compressed as we never do
        raise _damaged(source, str(error)) from error


def _damaged(source: Path, why: str) -> ConfigError:
    return ConfigError(f"{source} is no whole backup", why=why, fix="take an older one; nothing was restored")


def _copy_out(connection: Connection, archive: zipfile.ZipFile, table: str) -> TableCopy:
    found = [row[0] for row in connection.execute(_COLUMNS, {"table": table})]
    columns = tuple(name for name in found if (table, name) not in _LEFT_OUT)
    digest, size = hashlib.sha256(), 0
    query = sql.SQL("COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table), sql.SQL(_TABLES[table])
    )
    with archive.open(f"{table}.copy", "w", force_zip64=True) as member, connection.cursor() as cursor:
        with cursor.copy(query) as copy:
            for chunk in copy:
                digest.update(chunk)
                size += len(chunk)
                member.write(chunk)
        return TableCopy(columns=columns, rows=cursor.rowcount, bytes=size, sha256=digest.hexdigest())


def _content(archive: zipfile.ZipFile, table: str, told: TableCopy, source: Path) -> Iterator[bytes]:
    """What a backup holds of a table, piece by piece; raises ConfigError where that is not what was written."""
    digest, size, name = hashlib.sha256(), 0, f"{table}.copy"
    try:
        member = _member(archive, name, source)
    except KeyError as error:
        raise _damaged(source, f"{name} is missing") from error
    with member:
        while size <= told.bytes and (chunk := member.read(_CHUNK_BYTES)):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
    if (digest.hexdigest(), size) != (told.sha256, told.bytes):
        raise _damaged(source, f"{name} is not what was written: its size or SHA-256 differs")


def _copy_in(connection: Connection, archive: zipfile.ZipFile, table: str, told: TableCopy, source: Path) -> None:
    name = f"{table}.copy"
    columns = sql.SQL(", ").join(map(sql.Identifier, told.columns))
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), columns)
    try:
        with connection.cursor() as cursor:
            with cursor.copy(query) as copy:
                for chunk in _content(archive, table, told, source):
                    copy.write(chunk)
            loaded = cursor.rowcount
    except (psycopg.DataError, psycopg.IntegrityError, *_WRONG_COLUMNS) as error:
        raise _damaged(source, f"{name}: {error}") from error
    if loaded != told.rows:
        raise _damaged(source, f"{name} is not what was written: it holds {loaded} rows, not {told.rows}")


def _require_unused(url: str, tables: Collection[str]) -> None:
    """Before its schema is touched: it may be the database of a running Tamma of an earlier release."""
    with (
        translate_errors(),
        connect_raw(url, application_name="tamma restore", timeouts=PATIENT) as connection,
        connection.transaction(),
    ):
        _require_empty(connection, [name for name in tables if _is_there(connection, name)])


def _is_there(connection: Connection, table: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,)


def _require_empty(connection: Connection, tables: Collection[str]) -> None:
    for table in tables:
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
    used = [t for t in tables if connection.execute(f"SELECT 1 FROM {t} LIMIT 1").fetchone()]
    if used:
        raise ConfigError(
            "the database is not empty",
            why=f"there are rows in {', '.join(used)}",
            fix="restore into a new database; for the embedded one: `tamma db stop`, then move the folder `postgres` of the state folder "
            "aside",
        )


def _read_manifest(archive: zipfile.ZipFile, source: Path) -> Manifest:
    try:
        with _member(archive, _MANIFEST, source) as member:
            found: dict[str, Any] = json.loads(member.read(_MANIFEST_BYTES_MAX))
        if found["format"] != FORMAT:
            raise ConfigError(
                f"{source} was made by a later Tamma",
                why=f"its format is {found['format']}",
                fix="upgrade this installation",
            )
        datetime.fromisoformat(found["taken_at"])
        revision = _revision(found["revision"])
        wanted = [name for name in _TABLES if revision >= _SINCE.get(name, revision)]
        tables = {name: _table_copy(found["tables"][name]) for name in wanted}
        return Manifest(taken_at=found["taken_at"], revision=revision, tables=tables)
    except KeyError as error:
        raise _damaged(source, f"{_MANIFEST} is missing, or tells nothing of {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(source, f"{_MANIFEST} is not in the form that `tamma db backup` writes") from error


def _revision(found: Any) -> str:
    if not _REVISION.fullmatch(found):
        raise ValueError(f"{found!r} is no revision")
    return str(found)


def _table_copy(found: Mapping[str, Any]) -> TableCopy:
    columns = tuple(map(str, found["columns"]))
    if not columns or any(not name or clean(name) != name for name in columns):
        raise ValueError("a table without columns, or a column without a name")
    return TableCopy(
        columns=columns,
        rows=int(found["rows"]),
        bytes=int(found["bytes"]),
        sha256=str(found["sha256"]),
    )
