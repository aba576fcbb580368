"""Claims about archives: what is old goes, the rest is whole, nothing is lost, and each guard keeps what it says."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tamma.adapters.postgres import archive as archiving
from tamma.adapters.postgres.archive import find_due
from tamma.adapters.postgres.archive_file import ARCHIVE_POINTS
from tamma.adapters.postgres.grants import Rights, grant
from tamma.adapters.postgres.verify import heads, verify
from tamma.core.attempt import Outcome
from tamma.core.effect import EffectKind
from tamma.core.errors import ConfigError, NotClaimable
from tamma.core.event import WorkSalvaged
from tamma.core.ids import BlobId, Oid
from tamma.core.lease import Lease
from tamma.core.task import TERMINAL
from tamma.engine.history import archives, horizon, standing
from tamma.ports.store import WorkerRole
from tests.adapters.postgres.archive_world import DAY, Past, in_database, in_files, past
from tests.adapters.postgres.store_world import ANN, World, draft, open_store, together
from tests.adapters.postgres.test_store_fold import History
from tests.support.fold_check import assert_fold_equals_tables, events_of, tables_of
from tests.support.sample import sample

KILLED = """
import sys
from datetime import timedelta
from pathlib import Path
from tamma.adapters.postgres.archive import archive
from tamma.adapters.system import NamedFailPoints
url, folder, point = sys.argv[1:]
points = NamedFailPoints({point: "kill"})
archive(url, Path(folder), older_than=timedelta(days=30), files_max=100, reach=points.reach)
"""


@pytest.fixture
def old(world: World, tmp_path: Path) -> Past:
    """Three months of random life, nothing archived yet."""
    return past(world, tmp_path / "archive", seed=3, steps=30)


@pytest.mark.parametrize("seed", sample(range(6), one_in=6))
def test_what_is_old_goes_and_the_rest_is_whole(world: World, tmp_path: Path, seed: int) -> None:
    """Chain, fold and rules hold with what stays, and with what went, archive after archive; earlier heads still prove it."""
    old = past(world, tmp_path / "archive", seed=seed)
    known, kept = set(in_database(world.url)), heads(world.url)
    for _ in range(3):
        run = old.archive()
        assert run.problems == ()
        assert old.verify().problems == ()
        assert_fold_equals_tables(world.url)
        assert verify(world.url, heads=kept, archive=old.folder).problems == ()
        left = in_database(world.url)
        gone = in_files(old.folder, old.written())
        assert gone
        assert len(left) + len(gone) == len({*left, *gone})
        assert {*left, *gone} >= known
        old.live(50, days=40)
        assert old.verify().problems == ()
        assert_fold_equals_tables(world.url)
        known |= set(in_database(world.url))


def test_what_goes_is_what_ended_long_ago(old: Past) -> None:
    """Not what lives, is recent, or is yet to be told; the newest task of each issue keeps its row, and so does each that pushed."""
    before = tables_of(old.world.url)
    touched = {event.stream: event.at for event in events_of(old.world.url)}
    run = old.archive()
    after = tables_of(old.world.url)
    newest = {
        task.ref: max(t.generation for t in before.tasks.values() if t.ref == task.ref)
        for task in before.tasks.values()
    }
    cut = {stream for stream, _, _ in in_files(old.folder, old.written())}
    pushed = {effect.task_id for effect in before.effects.values() if effect.kind is EffectKind.PUSH}
    for task in before.tasks.values():
        is_due = task.state in TERMINAL and task.notice is None and touched[f"task:{task.id}"] < old.now - 30 * DAY
        is_gone = task.id not in after.tasks
        assert is_gone == (is_due and task.generation < newest[task.ref] and task.id not in pushed), task
        assert (f"task:{task.id}" in cut) <= is_due, task
        if not is_gone:
            assert after.tasks[task.id] == task
    assert {e.task_id for e in after.effects.values()} == {e.task_id for e in before.effects.values()} & set(
        after.tasks
    )
    assert sum(fact.tasks_removed for fact in run.archived) == len(before.tasks) - len(after.tasks) > 0
    assert any(f"task:{task}" in cut for task in after.tasks)
    assert find_due(old.world.url_at(old.now), older_than=30 * DAY) == []


@pytest.mark.parametrize("point", sorted(ARCHIVE_POINTS))
def test_killed_anywhere_nothing_is_lost(old: Past, point: str) -> None:
    """Each event is in the log, in a file that the log names, or in both; the next run ends it and sweeps up."""
    known = set(in_database(old.world.url))
    argv = [sys.executable, "-c", KILLED, old.world.url_at(old.now), str(old.folder), point]
    assert subprocess.run(argv, check=False, capture_output=True, timeout=60).returncode == -9
    assert {*in_database(old.world.url), *in_files(old.folder, old.written())} == known
    assert old.verify().problems == ()
    old.archive()
    assert old.verify().problems == ()
    assert {*in_database(old.world.url), *in_files(old.folder, old.written())} == known
    assert list(old.folder.glob(".*")) == []


def test_a_run_reaches_every_fail_point(old: Past) -> None:
    """None is dead, none is missing from the list."""
    reached: set[str] = set()
    old.archive(reach=reached.add)
    assert reached == ARCHIVE_POINTS


def test_two_at_once_beside_writers(old: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event goes once, into one file, while others claim, settle and register."""
    monkeypatch.setattr(archiving, "EVENTS_PER_FILE_MAX", 5)
    known, done = set(in_database(old.world.url)), threading.Event()

    def write(seed: int) -> None:
        with old.world.at(old.now) as store:
            history = History(store, seed)
            while not done.is_set():
                history.step()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (21, 22)]
    for writer in writers:
        writer.start()
    try:
        runs = together(old.archive, old.archive)
    finally:
        done.set()
        for writer in writers:
            writer.join(timeout=60)
    assert sum(len(run.archived) for run in runs) == len(old.written()) > 1
    gone, left = in_files(old.folder, old.written()), in_database(old.world.url)
    assert len(gone) == len(set(gone))
    assert not {*gone} & {*left}
    assert {*gone, *left} >= known
    assert old.verify().problems == ()
    assert_fold_equals_tables(old.world.url)


def test_what_changes_while_its_file_is_written_stays(old: Past) -> None:
    """The file is void, and the next try leaves the task out."""
    with old.world.at(old.now) as store:
        due = {one.stream for one in find_due(old.world.url_at(old.now), older_than=30 * DAY)}
        task = next(t for t in store.tasks.list(limit=500) if f"task:{t.id}" in due)
        tries: list[str] = []

        def touch(point: str) -> None:
            tries.append(point)
            if tries.count("archive.after_file") == 1 and point == "archive.after_file":
                lease = Lease(task_id=task.id, epoch=task.epoch, worker=ANN, expires_at=old.now)
                assert store.claims.salvage(
                    lease, WorkSalvaged(epoch=lease.epoch, base=Oid("b"), patch=BlobId("p"), files=1)
                )

        old.archive(reach=touch)
    assert tries.count("archive.after_file") == 2
    assert not any(stream == f"task:{task.id}" for stream, _, _ in in_files(old.folder, old.written()))
    assert old.verify().problems == ()


def test_no_more_files_than_allowed(old: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is left for the next run, and said."""
    monkeypatch.setattr(archiving, "STREAMS_PER_FILE_MAX", 2)
    first = old.archive(files_max=1)
    assert (len(first.archived), first.archived[0].streams) == (1, 2)
    assert first.left > 0
    assert old.archive().left == 0
    assert old.verify().problems == ()


def test_a_stream_that_is_not_whole_is_not_archived(old: Past) -> None:
    """It would hide what happened to it; the others go."""
    due = find_due(old.world.url_at(old.now), older_than=30 * DAY)
    broken = [due[0].stream, due[-1].stream]
    with psycopg.connect(old.world.url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE event SET tags = '{x}' WHERE stream = %s AND version = 1", [broken[0]])
        connection.execute("UPDATE task SET priority = 77 WHERE 'task:' || id = %s", [broken[1]])
        connection.execute("UPDATE worker SET host = 'elsewhere' WHERE 'worker:' || id = %s", [broken[1]])
    run = old.archive()
    assert {problem.stream for problem in run.problems} == set(broken)
    cut = {stream for stream, _, _ in in_files(old.folder, old.written())}
    assert cut == {one.stream for one in due} - set(broken)


def test_nothing_but_an_archive_removes_what_was_told(old: Past) -> None:
    """Not even the owner, before or after one: an event goes only if an anchor stands for it."""
    old.archive()
    for statement in (
        "DELETE FROM event",
        "DELETE FROM event WHERE version > 1",
        "UPDATE event SET version = version",
        "TRUNCATE event",
        "UPDATE anchor SET version = version + 1",
        "DELETE FROM anchor",
        "TRUNCATE anchor",
    ):
        with psycopg.connect(old.world.url) as connection, pytest.raises(psycopg.Error, match="append-only"):
            connection.execute(statement)


@pytest.fixture
def app(old: Past) -> Iterator[str]:
    """The database as the role that the loop runs as."""
    name = f"app_{uuid4().hex[:8]}"
    with psycopg.connect(old.world.url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{name}"')
        grant(old.world.url, name, Rights.APP)
        yield f"{old.world.url_at(old.now)}%20-c%20role%3D{name}"
        connection.execute(f'DROP OWNED BY "{name}"')
        connection.execute(f'DROP ROLE "{name}"')


def test_only_the_owner_archives(old: Past, app: str) -> None:
    """The app's role is refused before anything is written, and by right; it works on beside archives as before."""
    with pytest.raises(ConfigError, match="only the owner"):
        archiving.archive(app, old.folder, older_than=DAY, files_max=1)
    assert not old.folder.exists()
    old.archive()
    for statement in (
        "DELETE FROM event",
        "INSERT INTO anchor VALUES ('task:x', 1, 1, '', 1, 1, now())",
        "DELETE FROM task",
    ):
        with psycopg.connect(app) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
    with closing(open_store(app)) as store:
        history = History(store, seed=9)
        for _ in range(150):
            history.step()
        standing(store.events, at=store.ping(), limit=5)
    assert old.verify().problems == ()


def test_an_id_is_used_once(world: World, tmp_path: Path) -> None:
    """A decider or a worker that slept over the archive does not begin its stream anew; the next generation is made as ever."""
    world.store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
    world.store.workers.change_state(ANN, world.store.workers.list()[0].state.GONE, reason="r")
    first = world.store.tasks.cancel(world.task(1).id, by="ann", reason="r")
    second = world.store.tasks.cancel(world.task(1, generation=2).id, by="ann", reason="r")
    old = Past(world=world, folder=tmp_path, history=History(world.store, 0), now=world.store.ping() + 40 * DAY)
    [fact] = old.archive().archived
    assert (fact.tasks_removed, fact.workers_removed, fact.streams) == (1, 1, 3)
    world.store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
    assert world.store.workers.list() == []
    with pytest.raises(NotClaimable):
        world.store.tasks.create(draft(1))
    assert world.store.tasks.create(draft(1, generation=2)) == second
    assert world.store.tasks.newest([first.ref], first.kind)[first.ref] == second
    third = world.task(1, generation=3)
    assert third.version == 1
    assert old.verify().problems == ()


def test_a_generation_is_made_though_an_older_one_is_still_in_the_log(world: World, tmp_path: Path) -> None:
    """The condition goes on to name the position where its predecessor began, which only the anchor knows now."""
    claim = world.claimed(1)
    world.ended(claim, Outcome.REFUSED)
    world.store.tasks.cancel(world.task(1, generation=2).id, by="ann", reason="r")
    old = Past(world=world, folder=tmp_path, history=History(world.store, 0), now=world.store.ping() + 40 * DAY)
    old.archive()
    assert [stream for stream, _, _ in in_database(world.url)].count(f"task:{claim.task.id}") > 0
    assert world.task(1, generation=3).generation == 3


def test_time_travel_tells_what_it_can(old: Past) -> None:
    """From the newest archived event on exactly what stood, but for removed rows, which are counted; before it, a refusal."""
    now = old.now
    with old.world.at(now) as store:
        before = standing(store.events, at=now, limit=500)
        old.now += timedelta(seconds=1)
        old.archive()
        after = standing(store.events, at=now, limit=500)
        assert set(after.tasks) < set(before.tasks)
        assert len(before.tasks) - len(after.tasks) == after.tasks_removed
        until = horizon(archives(store.events))
        assert until is not None
        assert sum(standing(store.events, at=until, limit=500).counts.values()) > 0
        with pytest.raises(ConfigError, match="cannot be told") as caught:
            standing(store.events, at=until - timedelta(microseconds=1), limit=5)
        assert old.written()[-1] in caught.value.why
