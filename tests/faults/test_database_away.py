"""The database drops every connection of a worker, again and again: it goes on, or ends with 75 and is finished later."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import psycopg

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tests.cli.ends import assert_ok
from tests.faults.world import (
    EDIT,
    NO_WORKERS,
    assert_delivered_once,
    ended,
    finish,
    hold_agents,
    queue,
    start_work,
    wait_for_event,
    wait_until_stopped,
    wake,
)
from tests.support.project import Project, a_project, wait_until
from tests.support.wire import a_wire

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
PLACES = (
    "prepare.after_enter",
    "agent.before_run",
    "push.after_intent",
    "push.after_effect",
    "change.after_effect",
    "settle.before_effect",
    "comment.after_effect",
)


def drop_connections(project: Project) -> int:
    """How many there were."""
    with psycopg.connect(project.database_url, autocommit=True) as connection:
        return len(connection.execute(OTHERS).fetchall())


def test_connections_lost_while_the_agent_works_cost_nothing(project: Project) -> None:
    """Heartbeat and pipeline connect anew, and the attempt delivers."""
    go = hold_agents(project)
    [task] = queue(project)
    worker = start_work(project, task, TAMMA_LEASE__DURATION_SECONDS="10")
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    for _ in range(3):
        wait_until(lambda: drop_connections(project) > 0, what="a connection")
    go.touch()
    done = ended(worker)
    assert done.code in {0, 75}, (done.err, done.out)
    finish(project)
    assert_delivered_once(project, "1")


def test_connections_lost_at_a_boundary(project: Project) -> None:
    """Whatever was under way is asked again: one branch, one change, no comment twice."""
    numbers = [str(n) for n, _ in enumerate(PLACES, 1)]
    for number in numbers:
        project.issue(number)
    tasks = queue(project, numbers)
    env = {"TAMMA_LEASE__DURATION_SECONDS": "20"}
    workers = [start_work(project, task, f"{place}=stop", **env) for task, place in zip(tasks, PLACES, strict=True)]
    for worker in workers:
        wait_until_stopped(worker)
    assert drop_connections(project) >= len(workers)
    for worker, place in zip(workers, PLACES, strict=True):
        done = wake(worker)
        assert done.code in {0, 75}, (place, done.err, done.out)
        assert "Traceback" not in done.err, place
    finish(project)
    assert_delivered_once(project, *numbers)


def test_the_loop_outlives_its_connections(project: Project) -> None:
    """One tick is given up, and the next finds the database again."""
    go = hold_agents(project)
    loop = project.start("orchestrate", "--until-idle")
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    for _ in range(3):
        wait_until(lambda: drop_connections(project) > 0, what="a connection")
    go.touch()
    done = ended(loop)
    assert done.code == 0, (done.err, done.out)
    assert_delivered_once(project, "1")


def test_a_single_tick_that_was_given_up_is_temporary(project: Project) -> None:
    """`--once`, and the database goes away while it looks: 75, so that cron's wrapper tries again; then it is whole."""
    with a_wire(project.database_url) as wire:
        wire.cut_reply_to(b"SELECT id FROM worker WHERE state IN", for_good=True)
        done = project.run("orchestrate", "--once", env={**NO_WORKERS, "DATABASE_URL": wire.url})
    assert done.code == 75, (done.err, done.out)
    assert "the tick was given up" in done.err
    assert re.search(r"tried again for [01]\.\d s at most\n", done.err), "no promise that is not kept"
    queue(project)


def test_a_running_loop_starts_its_own_server_again(tmp_path: Path) -> None:
    """The embedded Postgres is killed under a loop that waits; the issue that comes then is delivered."""
    with a_project(tmp_path, "") as project:
        project.repository()
        project.configure()
        loop = project.start("orchestrate", env={"TAMMA_LIMITS__TICK_SECONDS": "0.2"})
        try:
            url = wait_for_database(project)
            wait_until(lambda: is_looping(url), what="the loop")
            os.kill(int(postmaster(project).read_text().split()[0]), signal.SIGKILL)
            project.issue()
            wait_until((tmp_path / "forge" / "demo" / "changes" / "1.md").exists, what="the change")
            loop.terminate()
            assert ended(loop).code == 0
        finally:
            project.stop_all()
            project.run("db", "stop")


def test_a_running_loop_makes_no_new_database_in_place_of_its_own(tmp_path: Path) -> None:
    """A disk that came loose, or a folder that somebody removed: an empty database would forget all that was done."""
    with a_project(tmp_path, "") as project:
        project.repository()
        project.configure()
        said = tmp_path / "said"
        loop = project.start("orchestrate", output=said)
        wait_until(lambda: is_looping(wait_for_database(project)), what="the loop")
        EmbeddedPostgres(tmp_path / ".tamma" / "postgres").stop("immediate")
        (tmp_path / ".tamma").rename(tmp_path / "elsewhere")
        wait_until(lambda: "database is gone" in said.read_text(), what="a word about it")
        assert "put that folder back" in said.read_text(), "what to do is said, too"
        assert not (tmp_path / ".tamma" / "postgres").exists()
        project.issue()
        shutil.rmtree(tmp_path / ".tamma", ignore_errors=True)
        (tmp_path / "elsewhere").rename(tmp_path / ".tamma")
        wait_until(lambda: bool(project.changes()), what="the change, once it is back")
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(timeout=60) == 0, said.read_text()
        assert "Traceback" not in said.read_text()
        assert_ok(project.run("db", "stop"))


def postmaster(project: Project) -> Path:
    """Tells the server's pid in its first line, while there is one."""
    return project.root / ".tamma" / "postgres" / "data" / "postmaster.pid"


def wait_for_database(project: Project) -> str:
    """Its address, once the loop has made it and its schema."""
    said: list[str] = []

    def is_ready() -> bool:
        done = project.run("db", "url")
        said[:] = [done.out.strip()]
        return done.code == 0

    wait_until(is_ready, what="a database")
    return said[0]


def is_looping(url: str) -> bool:
    """Whether a loop has registered."""
    with psycopg.connect(url, autocommit=True) as connection:
        return bool(connection.execute("SELECT 1 FROM worker WHERE state = 'online'").fetchall())


def test_an_agent_stopped_for_a_lease_that_came_back_is_not_blamed(project: Project) -> None:
    """The database was away for longer than the fence, and back before the agent was dead: neither attempt nor crash is charged,
    since the worker itself says what it was."""
    stubborn = f"trap 'touch {project.root}/asked' TERM; touch {project.root}/works; while :; do sleep 0.05; done"
    project.script(
        f'[[play]]\nissue = "*"\nattempt = 1\nsteps = [{EDIT}, {{ run = ["sh", "-c", "{stubborn}"] }}]\n'
        f'[[play]]\nissue = "*"\nsteps = [{EDIT}]\n'
    )
    [task] = queue(project)
    with a_wire(project.database_url) as wire:
        lease = {"TAMMA_LEASE__DURATION_SECONDS": "6", "TAMMA_LEASE__BEAT_SECONDS": "1"}
        worker = start_work(project, task, DATABASE_URL=wire.url, **lease)
        wait_until((project.root / "works").exists, what="the agent")
        wire.refuse()
        wire.cut()
        wait_until((project.root / "asked").exists, what="the end that the agent is asked for")
        wire.mend()
        done = ended(worker, seconds=60)
    assert done.code == 75, (done.code, done.err)
    assert project.rows("SELECT state, attempts, crashes, infra FROM task") == [("retryable", 0, 0, 1)]
    finish(project)
    assert_delivered_once(project, "1")
