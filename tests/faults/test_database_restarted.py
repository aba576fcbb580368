"""What happens to a whole database server: it is restarted under a running agent, or somebody else holds it up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade
from tamma.core.event import AgentSpoke
from tests.faults.world import EDIT, assert_delivered_once, ended, epochs, queue, start_work, wait_for_event
from tests.support.fold_check import assert_fold_equals_tables
from tests.support.project import Project, a_project, wait_until

LEASE: Final = {"TAMMA_LEASE__DURATION_SECONDS": "30", "TAMMA_LEASE__BEAT_SECONDS": "5"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """One that nobody else uses."""
    made = EmbeddedPostgres(tmp_path / "server")
    upgrade(made.start())
    yield made
    made.stop("immediate")


@pytest.fixture
def project(tmp_path: Path, server: EmbeddedPostgres) -> Iterator[Project]:
    with a_project(tmp_path, server.url()) as made:
        made.repository()
        made.issue()
        yield made


def test_an_agent_outlives_restarts_of_the_server(project: Project, server: EmbeddedPostgres) -> None:
    """Shut down and crashed while the agent works, speaks and ends: one attempt, no error, and not a word is lost."""
    go, spoken = project.root / "go", project.root / "spoken"
    until = f'{{ run = ["sh", "-c", "while [ ! -e {go} ]; do sleep 0.05; done"] }}'
    told = f'{{ say = "while it was away" }}, {{ run = ["touch", "{spoken}"] }}'
    project.configure(steps=f'{EDIT}, {{ say = "before" }}, {until}, {told}')
    [task] = queue(project)
    worker = start_work(project, task, TAMMA_LEASE__DURATION_SECONDS="30")
    wait_for_event(project, "AGENT.OUTPUT.RECEIVED")
    server.stop("fast")
    server.start()
    server.stop("immediate")
    go.touch()
    wait_until(spoken.exists, what="a word")
    server.start()
    done = ended(worker)
    assert done.code == 0, (done.err, done.out)
    assert "Traceback" not in done.err
    events = project.events(task)
    assert epochs(events) == [1]
    words = [event.fact.text for event in events if isinstance(event.fact, AgentSpoke)]
    assert [word for word in words if word in ("before", "while it was away")] == ["before", "while it was away"], words
    assert_delivered_once(project, "1")
    assert_fold_equals_tables(server.url())


def test_a_busy_loop_and_its_workers_outlive_crashes_of_the_server(project: Project, server: EmbeddedPostgres) -> None:
    """Stopped at once and started again, three times, while two workers are at work: the loop goes on, and each is one delivery."""
    numbers = ["1", "2", "3", "4"]
    for number in numbers[1:]:
        project.issue(number)
    project.configure()
    loop = project.start("orchestrate", "--workers", "2", env=LEASE)
    for type_ in ("TASK.CLAIM.SUCCEEDED", "EFFECT.RECORD.SUCCEEDED", "TASK.SETTLE.SUCCEEDED"):
        wait_until(lambda: bool(project.rows("SELECT 1 FROM event WHERE type = %s", type_)), what=type_)  # noqa: B023
        server.stop("immediate")
        server.start()
    done_with = [("succeeded", None)] * len(numbers)
    wait_until(lambda: project.rows("SELECT state, notice FROM task") == done_with, seconds=90, what="all of it")
    loop.terminate()
    done = ended(loop)
    assert done.code == 0, (done.err, done.out)
    assert "a bug in Tamma" not in done.err + done.out
    assert_delivered_once(project, *numbers)
    assert_fold_equals_tables(server.url())


def test_somebody_elses_long_transaction_holds_up_no_work(project: Project) -> None:
    """While it is open, in whatever database of the server, the end of the log is not known and nothing is shown; the issue is
    delivered all the same."""
    project.configure()
    with psycopg.connect(project.database_url) as other:
        other.execute("SELECT pg_current_xact_id()")
        done = project.run("orchestrate", "--once")
    assert done.code == 0, done.err
    assert "what happens cannot be shown yet" in done.err
    assert_delivered_once(project, "1")
