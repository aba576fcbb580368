"""Claims about ``tamma db …`` and ``--at``: the past can be proven, shown, kept and brought back."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.adapters.postgres.test_backup import damage
from tests.cli.ends import assert_ok, assert_told
from tests.support.project import Project, a_project


def test_verify_names_what_was_tampered_with(project: Project) -> None:
    """0 and what was looked at; 1 and the event, after an edit that no command of ours could make."""
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert "whole: " in assert_ok(project.run("db", "verify")).out
    assert assert_ok(project.run("db", "verify", "--json")).json["problems"] == []
    with psycopg.connect(project.database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        edit = "UPDATE event SET data = data || '{\"gate\": \"another\"}' WHERE type = 'GATE.RUN.FINISHED' RETURNING stream"
        row = connection.execute(edit).fetchone()
    assert row is not None
    done = project.run("db", "verify")
    assert done.code == 1
    assert row[0] in done.out


def test_heads_kept_elsewhere_are_held_against_the_log(project: Project) -> None:
    """A line for each stream and one with their number; every line of every export in the file is held against the log."""
    assert_ok(project.run("orchestrate", "--until-idle"))
    lines = assert_ok(project.run("db", "heads")).out
    kept = project.root / "heads.jsonl"
    kept.write_text(lines * 2)
    assert len(lines.splitlines()) >= 4
    assert_ok(project.run("db", "verify", "--heads", "heads.jsonl"))
    forged = {**json.loads(lines.splitlines()[0]), "hash": "00" * 32}
    for other in ({"stream": "task:gone", "version": 4, "hash": "00" * 32}, forged):
        kept.write_text(json.dumps(other) + '\n{"streams": 1}\n' + lines)
        done = project.run("db", "verify", "--heads", "heads.jsonl")
        assert (done.code, str(other["stream"]) in done.out) == (1, True)
    kept.write_text("{}")
    assert_told(project.run("db", "verify", "--heads", "heads.jsonl"), 2, "heads.jsonl cannot be read", "next:")


def test_what_was_destroyed_comes_back_and_nothing_is_done_twice(bare_project: Project) -> None:
    """Taken while the task waited to be tried, restored after the world had seen its change: found, not repeated."""
    project = bare_project
    assert_ok(project.run("db", "upgrade"))
    assert_ok(project.run("task", "add", "demo#1"))
    taken = assert_ok(project.run("db", "backup", "kept.tamma")).out
    assert "whole: " in taken
    assert_ok(project.run("orchestrate", "--until-idle"))
    comments, branches, changes = seen(project)
    assert_told(project.run("db", "restore", "kept.tamma"), 2, "not empty", "next:")
    assert_ok(project.run("db", "stop"))
    shutil.rmtree(project.root / ".tamma")
    assert "whole: " in assert_ok(project.run("db", "restore", "kept.tamma")).out
    assert "1 queued" in assert_ok(project.run("status")).out
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert "1 succeeded" in assert_ok(project.run("status")).out
    assert seen(project) == (comments, branches, changes)
    assert_ok(project.run("db", "verify"))


def seen(project: Project) -> tuple[int, dict[str, str], list[str]]:
    """What the world has: comments of ours, branches with their commits, change files."""
    return project.issue_text().count("Tamma delivered"), project.branches(), project.changes()


@pytest.mark.parametrize("rights", ["app", "reader"])
def test_rights_are_given_by_a_command(project: Project, rights: str) -> None:
    """To a role that exists; else it says how to make one."""
    role = f"cli_{rights}_{project.root.name}"
    assert_told(project.run("db", "grant", role, "--as", rights), 2, "no role", "CREATE ROLE")
    with psycopg.connect(project.database_url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}"')
        try:
            assert_ok(project.run("db", "grant", role, "--as", rights))
            row = connection.execute("SELECT has_table_privilege(%s, 'event', 'INSERT')", [role]).fetchone()
            assert row == (rights == "app",)
        finally:
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')


def test_the_past_is_shown_as_it_was(project: Project) -> None:
    """Before the run nothing; between, the task that waited; in words and as JSON. A moment must be one, and past."""
    begin = datetime.now(UTC) - timedelta(seconds=1)
    assert_ok(project.run("task", "add", "demo#1"))
    between = datetime.now(UTC)
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert "no tasks yet" in assert_ok(project.run("status", "--at", begin.isoformat())).out
    then = assert_ok(project.run("status", "--at", between.isoformat(), "--json")).json
    assert (then["counts"]["queued"], then["tasks"][0]["state"]) == (1, "queued")
    assert "1 succeeded" in assert_ok(project.run("status", "--at", "0s")).out
    shown = assert_ok(project.run("events", "--at", between.isoformat())).out
    assert len(shown.splitlines()) == 1
    assert "1 succeeded" not in assert_ok(project.run("status", "--at", "1h")).out
    for wrong in ("yesterday", "2199-01-01", "5y"):
        assert_told(project.run("status", "--at", wrong), 2, wrong, "next:")
    assert_told(project.run("events", "--at", "1h", "--follow"), 2, "exclude each other")


def test_the_address_is_good_for_other_programs_whatever_the_folder(tmp_path: Path) -> None:
    """Also where the path is too long for a socket, and each process reaches the server in a way of its own."""
    root = tmp_path / ("d" * 100)
    root.mkdir()
    with a_project(root, "") as project:
        project.repository()
        project.configure()
        assert_ok(project.run("db", "upgrade"))
        with psycopg.connect(assert_ok(project.run("db", "url")).out.strip()) as connection:
            assert connection.execute("SELECT count(*) FROM task").fetchone() == (0,)
        assert_ok(project.run("db", "stop"))


def test_a_backup_that_cannot_be_made_says_why(project: Project, tmp_path: Path) -> None:
    """A folder that is not there, and a file that is no backup."""
    assert_told(project.run("db", "backup", "none/kept.tamma"), 2, f"there is no folder {tmp_path}/none", "next:")
    (tmp_path / "other").write_text("x")
    assert_told(project.run("db", "restore", "other"), 2, "no whole backup", "nothing was restored")
    assert_told(project.run("db", "restore", "none"), 2, "no such file", "next:")
    os.mkfifo(tmp_path / "pipe")
    assert_told(project.run("db", "restore", "pipe"), 2, "no regular file", "next:")


def test_a_refused_restore_makes_no_database(tmp_path: Path) -> None:
    """What is wrong with a file is found before anything is made for it: the next restore, or loop, begins as if nothing was."""
    with a_project(tmp_path, "") as project:
        project.repository()
        project.configure()
        assert_ok(project.run("db", "upgrade"))
        assert_ok(project.run("db", "backup", "kept.tamma", "--no-proof"))
        assert_ok(project.run("db", "stop"))
        shutil.rmtree(tmp_path / ".tamma")
        whole = (tmp_path / "kept.tamma").read_bytes()
        damage(tmp_path / "kept.tamma", "task.copy", b"x" * 100_000)
        assert_told(project.run("db", "restore", "kept.tamma"), 2, "task.copy is not what was written", "next:")
        assert not (tmp_path / ".tamma").exists()
        (tmp_path / "kept.tamma").write_bytes(whole)
        assert_ok(project.run("db", "restore", "kept.tamma"))
        assert_ok(project.run("db", "stop"))


@pytest.mark.parametrize("args", [("backup", ".tamma/postgres/kept.tamma"), ("archive", "--to", ".tamma/postgres/old")])
def test_nothing_is_kept_in_the_database_s_own_folder(project: Project, args: tuple[str, ...]) -> None:
    """It would be lost with what it is there to replace."""
    assert_ok(project.run("db", "upgrade"))
    assert_told(project.run("db", *args), 2, "own folder", "next:")


def test_a_backup_follows_a_link(project: Project, tmp_path: Path) -> None:
    """A name that always leads to the newest one stays what it is."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "newest").symlink_to(tmp_path / "disk" / "kept.tamma")
    assert_ok(project.run("db", "upgrade"))
    assert_ok(project.run("db", "backup", "newest", "--no-proof"))
    assert (tmp_path / "newest").is_symlink()
    assert [entry.name for entry in (tmp_path / "disk").iterdir()] == ["kept.tamma"]


def test_a_backup_replaces_no_pipe_and_no_device(project: Project, tmp_path: Path) -> None:
    """What is no file stays as it is: as root, a backup to /dev/null would put a file in its place."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        assert_told(project.run("db", "backup", name), 2, "cannot be written", "not a regular file")
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()
