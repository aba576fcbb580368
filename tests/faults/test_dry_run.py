"""``--dry-run`` reads everything and writes nothing, and says what the next tick then does."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tamma.core.event import Event, TaskCreated, TaskDispatched, TaskReaped
from tests.faults.world import ended, finished, queue, start_work
from tests.support.fold_check import events_of
from tests.support.project import Project, a_project, wait_until

EXPIRED = "SELECT 1 FROM task WHERE state = 'running' AND lease_expires_at <= tamma_now()"
DUE = "SELECT 1 FROM task WHERE state = 'retryable' AND run_after <= tamma_now()"
SILENT = "SELECT 1 FROM worker WHERE state = 'online' AND last_beat_at < tamma_now() - interval '1.5 seconds'"
# What a tick's first events say it did; "told" and "cancelled" have claims of their own elsewhere.
DEEDS = {
    TaskReaped: "reap",
    TaskCreated: "create",
    TaskDispatched: "dispatch",
}


def test_it_says_what_the_next_tick_does_and_touches_nothing(project: Project) -> None:
    """With an expired lease, a due retry and an eligible issue there; then the tick does just that."""
    prepare_work(project)
    before = everything(project)
    said = finished(project.run("orchestrate", "--dry-run", "--json")).json["actions"]
    assert everything(project) == before
    plain = finished(project.run("orchestrate", "--dry-run"))
    assert everything(project) == before
    assert "no new task for demo#1: it has task " in plain.out, "which is dispatched"
    assert len([line for line in plain.out.splitlines() if not line.startswith("no new task for ")]) == len(said)

    known = len(events_of(project.database_url))
    finished(project.run("orchestrate", "--once"))
    done = deeds(events_of(project.database_url)[known:])

    planned = [(action["action"], action["task"]) for action in said if action["action"] in DEEDS.values()]
    assert {verb for verb, _ in planned} == {"reap", "create", "dispatch"}, said
    assert done == planned
    offline = {action["worker"] for action in said if action["action"] == "mark-offline"}
    assert offline == {row[0] for row in project.rows("SELECT id FROM worker WHERE state = 'offline'")}
    assert offline


def test_without_a_database_it_makes_none(project: Project) -> None:
    """It judges by the forge alone, and leaves not even a folder."""
    project.issue("2", labels=["tamma", "wontfix"])
    forge = files(project.root / "forge")
    done = finished(project.run("orchestrate", "--dry-run", env={"DATABASE_URL": ""}))
    assert f"create task {project.task_id()}" in done.out
    assert f"start a worker on task {project.task_id()}" in done.out
    assert "no new task for demo#2: " in done.out, done.out
    assert not (project.root / ".tamma").exists()
    assert files(project.root / "forge") == forge


def test_it_says_what_the_next_tick_leaves_for_later(project: Project) -> None:
    """A crowd is looked at page by page, and a look ahead sees the first."""
    project.issue("2")
    done = finished(project.run("orchestrate", "--dry-run", env={"TAMMA_LIMITS__CANDIDATES_MAX": "1"}))
    assert "not looked at: more issues of demo: a tick looks at 1" in done.out
    assert "demo#2" not in done.out


def test_a_database_that_does_not_run_is_not_started(tmp_path: Path) -> None:
    """It judges by the forge alone and says so; not one file of the state folder changes."""
    with a_project(tmp_path, "") as project:
        project.repository()
        project.configure()
        finished(project.run("orchestrate", "--once"))
        finished(project.run("db", "stop"))
        project.issue()
        before = files(tmp_path / ".tamma")
        done = finished(project.run("orchestrate", "--dry-run"))
        after = files(tmp_path / ".tamma")
        project.run("db", "stop")
    assert f"create task {project.task_id()}" in done.out
    assert "not looked at: the database: it is not running" in done.out
    assert after == before


def prepare_work(project: Project) -> None:
    """Issue 1: a retry that is due; 2: a lease that ran out; 3: eligible."""
    project.issue("2")
    project.script(
        '[[play]]\nissue = "1"\nattempt = 1\nsteps = [{ fail = "not today" }]\n[[play]]\nissue = "*"\nsteps = []\n'
    )
    first, second = queue(project, ("1", "2"))
    victim = start_work(project, second, "implement.after_enter=kill")
    assert ended(start_work(project, first)).code == 11
    assert ended(victim).code == -signal.SIGKILL
    project.issue("3")
    (project.root / "tamma.toml").write_text(
        (project.root / "tamma.toml").read_text() + "\n[lease]\nbeat_seconds = 0.5\nduration_seconds = 30\n"
    )
    for wanted in (EXPIRED, DUE, SILENT):
        wait_until(lambda wanted=wanted: bool(project.rows(wanted)), what=wanted)  # type: ignore[misc]


def everything(project: Project) -> tuple[Any, ...]:
    """All rows of all tables and the sequences, the forge, and the state folder."""
    return rows_of_all_tables(project.database_url), files(project.root / "forge"), files(project.root / ".tamma")


def rows_of_all_tables(url: str) -> dict[str, Any]:
    """The logical content of the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
        tables = {
            name: connection.execute(
                sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(name))
            ).fetchall()
            for (name,) in names
        }
        sequences = connection.execute("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1").fetchall()
    assert tables["task"]
    assert tables["event"]
    return {**tables, "sequences": sequences}


def files(folder: Path) -> dict[str, str]:
    """What each file holds, and each folder's place and time."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else str(path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def deeds(events: list[Event]) -> list[tuple[str, str]]:
    """What a tick did, in the order it did it; the events of its workers come later, and do not count."""
    named = [(next((verb for kind, verb in DEEDS.items() if isinstance(e.fact, kind)), ""), e.stream) for e in events]
    return [(verb, stream.removeprefix("task:")) for verb, stream in named if verb]
