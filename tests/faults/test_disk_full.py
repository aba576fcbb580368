"""A real disk without space, under the database, under the workspaces, under both: what runs is kept, and goes on with the space."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade
from tests.faults.test_database_away import wait_for_database
from tests.faults.world import (
    EDIT,
    NO_WORKERS,
    assert_delivered_once,
    ended,
    epochs,
    finish,
    hold_agents,
    queue,
    start_work,
    wait_for_event,
)
from tests.support.fold_check import assert_fold_equals_tables
from tests.support.project import GATE, Project, a_project, wait_until
from tests.support.small_disk import SmallDisk, a_small_disk


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """Enough for a server, or for a few attempts; where every user may pass, and a socket has a short name."""
    folder = Path(tempfile.mkdtemp(prefix="tamma-disk-"))
    folder.chmod(0o711)
    try:
        with a_small_disk(folder, megabytes=160) as made:
            yield made
    finally:
        folder.rmdir()


def on(disk: SmallDisk) -> str:
    """Configuration of a state folder there."""
    return f'{GATE}\n[state]\nfolder = "{disk.folder}/state"\n'


def test_a_database_without_space_loses_nothing(tmp_path: Path, disk: SmallDisk) -> None:
    """What it cannot take is told and tried again; the attempt that ran all the while delivers, and so does the new issue."""
    server = EmbeddedPostgres(disk.folder / "server")
    try:
        upgrade(server.start())
        with a_project(tmp_path, server.url()) as project:
            project.repository()
            project.issue()
            go = hold_agents(project)
            loop = project.start("orchestrate", "--workers", "1", env={"TAMMA_LEASE__BEAT_SECONDS": "1"})
            wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
            disk.fill()
            project.issue("2", body=secrets.token_hex(30_000))
            done = project.run("orchestrate", "--once", env=NO_WORKERS)
            assert "No space left on device" in done.err + done.out, (done.code, done.err, done.out)
            assert project.state(project.task_id("2"))[0] == "none"
            disk.free()
            go.touch()
            wait_for_the_end(project, "1", "2")
            loop.terminate()
            done = ended(loop)
            assert done.code == 0, (done.err, done.out)
            assert_delivered_once(project, "1", "2")
            assert epochs(project.events()) == [1]
            assert_fold_equals_tables(server.url())
    finally:
        server.stop("immediate")


def test_a_state_folder_without_space_takes_its_server_down_and_comes_back(tmp_path: Path, disk: SmallDisk) -> None:
    """The server cannot write its log of changes and dies; once there is space the loop starts it, and all goes on."""
    with a_project(tmp_path, "") as project:
        project.repository()
        project.issue()
        go = tmp_path / "go"
        held = f'{{ run = ["sh", "-c", "while [ ! -e {go} ]; do sleep 0.05; done"] }}'
        project.configure(on(disk), steps=f'{EDIT}, {{ say = "edited" }}, {held}')
        loop = project.start("orchestrate", "--workers", "1", env={"TAMMA_LEASE__BEAT_SECONDS": "1"})
        try:
            url = wait_for_database(project)
            seen = Project(root=tmp_path, database_url=url)
            wait_for_event(seen, "AGENT.OUTPUT.RECEIVED")
            disk.fill()
            use_up_the_log(url)
            wait_until(lambda: not is_up(url), what="the end of the server")
            project.issue("2")
            disk.free()
            wait_until(lambda: is_up(url), what="the server")
            go.touch()
            wait_for_the_end(seen, "1", "2")
            loop.terminate()
            done = ended(loop)
            assert done.code == 0, (done.err, done.out)
            assert_delivered_once(seen, "1", "2")
            assert_fold_equals_tables(url)
        finally:
            project.stop_all()
            project.run("db", "stop")


def test_a_database_that_there_is_no_room_to_make_is_made_later(tmp_path: Path) -> None:
    """75: whoever starts the loop may do so again, and does not look for a user in /etc/passwd."""
    folder = Path(tempfile.mkdtemp(prefix="tamma-disk-"))
    folder.chmod(0o711)
    with a_small_disk(folder, megabytes=20) as tiny, a_project(tmp_path, "") as project:
        project.repository()
        project.configure(on(tiny))
        done = project.run("orchestrate", "--once")
        assert done.code == 75, (done.err, done.out)
        assert "and a new one needs 64" in done.err
        assert "free some disk space" in done.err
    folder.rmdir()


def wait_for_the_end(project: Project, *numbers: str) -> None:
    """Of their tasks, and their issues told."""
    done_with = [("succeeded", None)] * len(numbers)
    wait_until(lambda: project.rows("SELECT state, notice FROM task") == done_with, seconds=90, what="all of it")


def use_up_the_log(url: str) -> None:
    """Write to PostgreSQL's log of changes alone, until it has no place for more."""
    message = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)) FROM generate_series(1, 100)"
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.OperationalError):
        connection.execute(message)


def is_up(url: str) -> bool:
    """Whether the server lets anybody in."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_no_space_for_a_workspace_passes(project: Project, disk: SmallDisk) -> None:
    """75 and the cause; no attempt is charged, and with the space the task is delivered."""
    project.configure(on(disk))
    [task] = queue(project)
    disk.fill()
    done = ended(start_work(project, task, TAMMA_LEASE__DURATION_SECONDS="20"))
    assert done.code == 75, (done.err, done.out)
    assert "free some" in done.err
    assert "Traceback" not in done.err
    disk.free()
    finish(project)
    assert_delivered_once(project, "1")
    assert project.rows("SELECT attempts FROM task") in ([], [(0,)])


def test_an_agent_that_fills_the_disk_leaves_it_as_it_was(project: Project, disk: SmallDisk) -> None:
    """Its attempt ends, what it wrote goes with its workspace, and the next one delivers."""
    project.configure(on(disk), steps=None)
    fills = '{ run = ["sh", "-c", "cat /dev/zero > big"], may_fail = true }'
    project.script(
        f'[[play]]\nissue = "*"\nattempt = 1\nsteps = [{EDIT}, {fills}]\n[[play]]\nissue = "*"\nsteps = [{EDIT}]\n'
    )
    [task] = queue(project)
    before = disk.free_bytes
    done = ended(start_work(project, task, TAMMA_LEASE__DURATION_SECONDS="30"), seconds=60)
    assert (done.code, project.state()) == (75, ("retryable", "unavailable")), (done.err, done.out)
    assert disk.free_bytes > before - 10_000_000, subprocess.run(["du", "-a", disk.folder], capture_output=True).stdout
    finish(project)
    assert_delivered_once(project, "1")
