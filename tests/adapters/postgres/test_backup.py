"""Claims about backups: one moment, whole or not there at all, and what comes back is what was taken."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import threading
import zipfile
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tamma.adapters.postgres import migrate
from tamma.adapters.postgres.backup import prove, put_back, take
from tamma.adapters.postgres.connect import connect_raw, with_database
from tamma.adapters.postgres.verify import heads, verify
from tamma.core.errors import ConfigError
from tests.adapters.postgres.store_world import World, open_store
from tests.adapters.postgres.test_store_fold import History
from tests.support.fold_check import assert_same, events_of, tables_of


@pytest.fixture
def lived(world: World) -> World:
    """A database with a past, and texts that need care in a file."""
    history = History(world.store, seed=3)
    for _ in range(200):
        history.step()
    world.store.blobs.put(b"\x00\\N\t\n\xff" * 1000)
    world.store.baselines.put("key\twith\\N", bytes(range(256)))
    return world


def databases(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {
            row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tamma_proof%'")
        }


def test_what_comes_back_is_what_was_taken(lived: World, empty_database_url: str, tmp_path: Path) -> None:
    """Tables, log, hashes, bytes; and the log goes on where it stopped."""
    file = tmp_path / "b.tamma"
    taken = take(lived.url, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert put_back(empty_database_url, file) == taken
    assert_same(tables_of(lived.url), tables_of(empty_database_url))
    assert events_of(lived.url) == events_of(empty_database_url)
    assert heads(lived.url) == heads(empty_database_url)
    assert verify(empty_database_url, heads=heads(lived.url)).problems == ()
    with closing(open_store(empty_database_url)) as store:
        assert store.baselines.get("key\twith\\N") == bytes(range(256))
        last = lived.store.events.head()
        History(store, seed=4).worker()
        assert store.events.latest(limit=1)[0].position > last
    assert verify(empty_database_url).problems == ()


def test_a_backup_beside_writers_is_of_one_moment(lived: World, tmp_path: Path) -> None:
    """Whatever is written meanwhile is in it with its event, or not at all."""
    done = threading.Event()

    def write(seed: int) -> None:
        with closing(open_store(lived.url)) as store:
            history = History(store, seed)
            while not done.is_set():
                history.step()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (11, 12)]
    for writer in writers:
        writer.start()
    try:
        for n in range(3):
            file = tmp_path / f"{n}.tamma"
            take(lived.url, file)
            report = prove(lived.url, file)
            assert report.problems == ()
            assert report.events > 0
    finally:
        done.set()
        for writer in writers:
            writer.join(timeout=60)
    assert databases(lived.url) == set()


def test_what_killed_backups_left_goes_with_the_next_and_what_living_ones_hold_stays(
    lived: World, tmp_path: Path
) -> None:
    """Drafts and scratch databases hold every text there is: they are known by their name, and dead if nobody holds its lock."""
    file = tmp_path / "b.tamma"
    dead, alive = tmp_path / ".b.tamma.0123abcd", tmp_path / ".b.tamma.4567abcd"
    others = [tmp_path / ".b.tamma.notadraft", tmp_path / ".c.tamma.0123abcd"]
    for path in (dead, alive, *others):
        path.touch()
    with (
        alive.open("rb") as held,
        connect_raw(lived.url, application_name="test") as holder,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        [[oid]] = holder.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchall()
        names = [f"tamma_proof_{oid}_dead", f"tamma_proof_{oid}_alive", f"tamma_proof_{oid}0_other"]
        for name in names:
            holder.execute(f"CREATE DATABASE {name}")
        holder.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [names[1]])
        take(lived.url, file)
        prove(lived.url, file)
        assert {path for path in tmp_path.iterdir() if path.name.startswith(".")} == {alive, *others}
        assert databases(lived.url) == set(names[1:])
        for name in names[1:]:
            holder.execute(f"DROP DATABASE {name}")


def damage(file: Path, member: str, content: bytes | None) -> None:
    """The same archive with one member changed, or left out."""
    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    kept.pop(member)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
        if content is not None:
            archive.writestr(member, content)


@pytest.mark.parametrize("member", ["task.copy", "event.copy", "blob.copy", "manifest.json"])
@pytest.mark.parametrize("how", ["gone", "changed", "cut"])
def test_a_damaged_backup_restores_nothing(
    lived: World, empty_database_url: str, tmp_path: Path, member: str, how: str
) -> None:
    """Each member is held against its digest; the database stays as empty as it was."""
    file = tmp_path / "b.tamma"
    take(lived.url, file)
    with zipfile.ZipFile(file) as archive:
        content = archive.read(member)
    changed = {"gone": None, "changed": content.replace(b"e", b"f", 1), "cut": content[: len(content) // 2]}[how]
    damage(file, member, changed)
    with pytest.raises(ConfigError):
        put_back(empty_database_url, file)
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute("SELECT to_regclass('task')").fetchone()
        assert found is not None
        assert found[0] is None or connection.execute("SELECT count(*) FROM task").fetchone() == (0,)


def test_half_a_file_is_no_backup(lived: World, empty_database_url: str, tmp_path: Path) -> None:
    """Cut off anywhere, or something else altogether, or not there."""
    file = tmp_path / "b.tamma"
    take(lived.url, file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK", b"no backup"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="no whole backup"):
            put_back(empty_database_url, file)
    with pytest.raises(ConfigError, match="is no backup"):
        put_back(empty_database_url, tmp_path / "none")


def test_a_database_in_use_is_not_overwritten(lived: World, tmp_path: Path) -> None:
    """Not even by its own backup."""
    file = tmp_path / "b.tamma"
    take(lived.url, file)
    with pytest.raises(ConfigError, match="not empty"):
        put_back(lived.url, file)


def test_a_database_in_use_keeps_its_schema(lived: World, empty_database_url: str, tmp_path: Path) -> None:
    """That of an earlier release, whose loops would not start any more."""
    file = tmp_path / "b.tamma"
    take(lived.url, file)
    migrate.upgrade(empty_database_url, "0004")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("INSERT INTO blob (id, content) VALUES ('x', 'x')")
    with pytest.raises(ConfigError, match="not empty"):
        put_back(empty_database_url, file)
    assert migrate.status(empty_database_url).current == "0004"


def test_a_backup_that_cannot_be_written_leaves_nothing(lived: World, tmp_path: Path) -> None:
    """A folder that is not there, and a disk that fills up; what was there before stays."""
    with pytest.raises(ConfigError, match="cannot be written"):
        take(lived.url, tmp_path / "none" / "b.tamma")
    file = tmp_path / "b.tamma"
    take(lived.url, file)
    old_one = file.read_bytes()
    lived.store.blobs.put(os.urandom(1 << 20))
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
    try:
        with pytest.raises(ConfigError, match="cannot be written"):
            take(lived.url, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert file.read_bytes() == old_one
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.tamma"]


def test_a_backup_of_a_later_tamma_is_refused(lived: World, empty_database_url: str, tmp_path: Path) -> None:
    """Its schema or its format is unknown here."""
    file = tmp_path / "b.tamma"
    for key, value in (("revision", "9999"), ("format", 9)):
        take(lived.url, file)
        with zipfile.ZipFile(file) as archive:
            manifest = json.loads(archive.read("manifest.json"))
        damage(file, "manifest.json", json.dumps({**manifest, key: value}).encode())
        with pytest.raises(ConfigError, match="later Tamma"):
            put_back(empty_database_url, file)


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("postgresql://u:p@h:5/db?sslmode=x", "postgresql://u:p@h:5/new?sslmode=x"),
        ("postgresql://u@/db?host=%2Ftmp%2Fx&dbname=y", "postgresql://u@/new?host=%2Ftmp%2Fx"),
        ("postgres://h", "postgres://h/new"),
    ],
)
def test_another_database_of_the_same_server(url: str, other: str) -> None:
    """Everything else of the URL stays."""
    assert with_database(url, "new") == other


def test_what_is_no_backup_is_not_replaced(database_url: str, tmp_path: Path) -> None:
    """A slip of the hand costs no file; an older backup, or an empty file, is replaced."""
    other, empty = tmp_path / "tamma.toml", tmp_path / "empty"
    other.write_text("[forge]")
    empty.touch()
    link = tmp_path / "link"
    link.symlink_to(other)
    for path in (other, link):
        with pytest.raises(ConfigError, match="is not replaced"):
            take(database_url, path)
    assert other.read_text() == "[forge]"
    take(database_url, empty)
    take(database_url, empty)
