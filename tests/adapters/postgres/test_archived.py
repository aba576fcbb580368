"""Claims about what was archived: ``tamma db verify`` names what was done to it, and it comes through backups and revisions."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tamma.adapters.postgres import migrate
from tamma.adapters.postgres.backup import put_back, take
from tamma.adapters.postgres.verify import Head, heads, verify
from tests.adapters.postgres.archive_world import Past, in_database, past
from tests.adapters.postgres.store_world import World, draft
from tests.support.fold_check import assert_fold_equals_tables, assert_same, tables_of

Lines = list[str]


@pytest.fixture
def cut(world: World, tmp_path: Path) -> Past:
    """A database whose past was archived twice, and lived on."""
    old = past(world, tmp_path / "archive", seed=5, steps=6)
    for generation in (3, 4):
        old.archive()
        with world.at(old.now) as store:
            store.tasks.cancel(store.tasks.create(draft("twice", generation=generation)).id, by="ann", reason="r")
        old.live(3, days=60)
    assert len(old.written()) == 2
    return old


def rewrite(path: Path, edit: Callable[[Lines, int], Lines], at: int = 0) -> None:
    """The file with other lines, as somebody who can write there would make it."""
    with gzip.open(path, "rt", encoding="utf-8") as source:
        lines = source.read().splitlines()
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in edit(lines, at)).encode()))


def told(line: str, **changes: object) -> str:
    return json.dumps({**json.loads(line), **changes})


def exchange(lines: Lines, at: int) -> Lines:
    """Two lines in each other's place, by their versions."""
    first, second = json.loads(lines[at]), json.loads(lines[at + 1])
    return [
        *lines[:at],
        told(lines[at], version=second["version"]),
        told(lines[at + 1], version=first["version"]),
        *lines[at + 2 :],
    ]


# What to do to the line at a place; the one before and the one behind it are of the same stream.
EDITS: dict[str, Callable[[Lines, int], Lines]] = {
    "edited": lambda lines, at: [*lines[:at], told(lines[at], data={"by": "nobody"}), *lines[at + 1 :]],
    "dated otherwise": lambda lines, at: [*lines[:at], told(lines[at], at="2020-01-01T00:00:00Z"), *lines[at + 1 :]],
    "without its hash": lambda lines, at: [*lines[:at], told(lines[at], hash=None), *lines[at + 1 :]],
    "left out": lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    "in another's place": exchange,
}


def test_a_line_that_was_tampered_with_is_named(cut: Past) -> None:
    """Its stream and version, beside the file whose digest is another; whoever forges the digest has the chain against him."""
    name = cut.written()[0]
    path = cut.folder / name
    whole = path.read_bytes()
    streams = [json.loads(line)["stream"] for line in gzip.decompress(whole).splitlines()]
    at = next(n for n in range(1, len(streams) - 1) if streams[n - 1] == streams[n] == streams[n + 1])
    for how, edit in EDITS.items():
        path.write_bytes(whole)
        assert cut.verify().problems == ()
        rewrite(path, edit, at)
        where = {problem.where for problem in cut.verify().problems}
        assert name in where, how
        assert any(found.startswith(f"{streams[at]} version") and found.endswith(name) for found in where), how
        assert verify(cut.world.url).problems == (), how


def test_what_is_no_archive_is_named(cut: Past) -> None:
    """Gone, cut off, something else, lines that are no events."""
    path = cut.folder / cut.written()[0]
    whole = path.read_bytes()
    for content in (None, whole[: len(whole) // 2], b"", b"something else"):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        assert path.name in {problem.where for problem in cut.verify().problems}
    path.unlink()
    os.mkfifo(path)  # nobody is waited for who might write to it
    assert path.name in {problem.where for problem in cut.verify().problems}
    path.unlink()
    path.write_bytes(whole)
    rewrite(path, lambda lines, _: [*lines, "no event", told(lines[0], version=99, at="never")])
    found = {problem.where: problem.what for problem in cut.verify().problems}
    assert any(where.startswith(f"{path.name} line ") for where in found)
    assert any("what is no event" in what for what in found.values())
    path.write_bytes(whole)
    assert cut.verify().problems == ()


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE anchor SET held = jsonb_set(held, '{task,priority}', '7') WHERE held IS NOT NULL", "archive version"),
        ("UPDATE anchor SET hash = sha256('x') WHERE held IS NOT NULL", "archive version"),
        ("DELETE FROM anchor WHERE held IS NULL", "archive version"),
        ("UPDATE anchor SET archive = 99 WHERE held IS NULL", "archive version 99"),
        ("DELETE FROM event WHERE stream = 'archive' AND version = 1", "archive version"),
        ("UPDATE event SET data = data || '{\"sha256\": \"00\"}' WHERE stream = 'archive'", "archive version"),
        ("UPDATE task SET priority = 7", "task:"),
        ("DELETE FROM effect", "task:"),
    ],
)
def test_what_stands_for_it_cannot_be_changed_unseen(cut: Past, statement: str, where: str) -> None:
    """Anchors, the events that tell of archives, and rows whose events are gone: without the files."""
    with psycopg.connect(cut.world.url) as connection:
        connection.execute("SET session_replication_role = replica")
        assert connection.execute(statement).rowcount > 0
    assert any(problem.where.startswith(where) for problem in verify(cut.world.url).problems)


def test_an_archived_event_that_is_back_is_named(cut: Past) -> None:
    """Twice would be as wrong as never."""
    with psycopg.connect(cut.world.url) as connection:
        connection.execute(
            "INSERT INTO event (stream, version, type, tags, at, data, hash) "
            "SELECT stream, version, 'WORK.RESUME.SUCCEEDED', '{}', at, '{}', hash FROM anchor LIMIT 1"
        )
    assert any("here again" in problem.what for problem in verify(cut.world.url).problems)


def test_heads_from_before_the_archive_prove_it_still(cut: Past) -> None:
    """At an anchor by the anchor, between two by the file."""
    with psycopg.connect(cut.world.url) as connection:
        row = connection.execute(
            "SELECT stream, version, encode(hash, 'hex') FROM anchor ORDER BY version DESC"
        ).fetchone()
    assert row is not None
    stream, version, hashed = row
    with gzip.open(cut.folder / cut.written()[0], "rt", encoding="utf-8") as source:
        first = json.loads(source.readline())
    honest = [Head(stream=stream, version=version, hash=hashed)]
    honest += [Head(stream=first["stream"], version=first["version"], hash=first["hash"])]
    for head in honest:
        forged = Head(stream=head.stream, version=head.version, hash="00")
        assert verify(cut.world.url, heads=[head], archive=cut.folder).problems == ()
        assert verify(cut.world.url, heads=[forged], archive=cut.folder).problems != ()
    never = Head(stream=stream, version=version + 99, hash="00")
    assert verify(cut.world.url, heads=[never], archive=cut.folder).problems != ()


def test_the_chain_of_an_archive_can_be_checked_without_us(cut: Past) -> None:
    """Anchors' hashes are those of the lines, and the file's SHA-256 is the one in the log."""
    with psycopg.connect(cut.world.url) as connection:
        for number, data in connection.execute("SELECT version, data FROM event WHERE stream = 'archive'").fetchall():
            content = (cut.folder / data["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == data["sha256"]
            last = {
                (line := json.loads(text))["stream"]: line["hash"] for text in gzip.decompress(content).splitlines()
            }
            anchors = "SELECT stream, encode(hash, 'hex') FROM anchor WHERE archive = %s"
            assert last.items() <= dict(connection.execute(anchors, [number]).fetchall()).items()


def test_an_archived_database_comes_back_from_its_backup(cut: Past, empty_database_url: str, tmp_path: Path) -> None:
    """Anchors and all; what was archived is proven there by the same files, and the log goes on behind them."""
    take(cut.world.url, tmp_path / "b.tamma")
    put_back(empty_database_url, tmp_path / "b.tamma")
    assert_same(tables_of(cut.world.url), tables_of(empty_database_url))
    kept = heads(cut.world.url)
    assert verify(empty_database_url, heads=kept, archive=cut.folder).problems == ()
    assert_fold_equals_tables(empty_database_url)


def test_a_backup_from_before_there_were_anchors_comes_back(
    world: World, empty_database_url: str, tmp_path: Path
) -> None:
    """It has no such table, and needs none."""
    past(world, tmp_path / "archive", seed=1)
    file, older = tmp_path / "b.tamma", tmp_path / "older.tamma"
    take(world.url, file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(older, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                del manifest["tables"]["anchor"]
                content = json.dumps(manifest | {"revision": "0003"}).encode()
            if name != "anchor.copy":
                target.writestr(name, content)
    put_back(empty_database_url, older)
    assert in_database(empty_database_url) == in_database(world.url)
    assert verify(empty_database_url).problems == ()


def test_the_revision_goes_down_and_up_unless_something_was_archived(world: World, tmp_path: Path) -> None:
    """A log with gaps that an older Tamma would take for holes is not handed to it."""
    old = past(world, tmp_path / "archive", seed=2)
    known = in_database(world.url)
    migrate.downgrade(world.url, "0003")
    with psycopg.connect(world.url) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute("DELETE FROM event")
    migrate.upgrade(world.url)
    assert in_database(world.url) == known
    old.archive()
    with pytest.raises(Exception, match="were archived"):
        migrate.downgrade(world.url, "0003")
    assert old.verify().problems == ()
