"""Claims about the log lines of real processes: the facts of the task they work on, named, on stderr only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import FIX, Project, a_project

NOT_THE_WORKERS = {"TASK.CREATE.SUCCEEDED", "TASK.NOTICE.SUCCEEDED"}


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Iterator[Project]:
    """One issue, and an agent that mends it."""
    with a_project(tmp_path, database_url) as made:
        made.repository()
        made.issue()
        made.configure()
        yield made


def test_work_logs_what_it_writes(project: Project) -> None:
    """With debug lines, each fact of the attempt is one line in the order of the log, naming issue, task, worker and epoch."""
    done = project.run("work", "--issue", "demo#1", "--log-json", env={"TAMMA_LOG__LEVEL": "debug"})
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.err.splitlines()]
    events = [e for e in project.events() if e.fact.TYPE not in NOT_THE_WORKERS]
    assert [line["event"] for line in lines] == [e.fact.TYPE for e in events]
    (worker,) = {line["worker"] for line in lines}
    assert project.rows("SELECT id FROM worker WHERE id = %s", worker)
    for line, event in zip(lines, events, strict=True):
        assert (line["task"], line["correlation"]) == (project.task_id(), event.correlation)
        assert line["epoch"] == getattr(event.fact, "epoch", None)


def test_work_logs_for_people_by_default(project: Project) -> None:
    """Plain lines at the level of the configuration; stdout has the result alone."""
    project.configure(steps='{ say = "secret word" }, ' + FIX)
    done = project.run("work", "--issue", "demo#1", env={"MY_API_KEY": "secret word"})
    assert re.search(r"\d [0-9a-f]{8} gate check passed", done.err), done.err
    assert "pushing" not in done.err, "what is about to happen is for debug lines"
    assert "secret word" not in done.err
    assert len(done.out.splitlines()) == 1
    quiet = project.run("work", "--issue", "demo#1", env={"TAMMA_LOG__LEVEL": "error"})
    assert quiet.err == ""


def test_the_loop_logs_what_it_skips(project: Project) -> None:
    """Trouble that is no event is a warning on stderr, as JSON where that is asked for; the events on stdout stay JSON."""
    (project.root / "forge" / "demo" / "issues" / "2.md").write_text("---\ntitle: [unclosed\n---\nbody\n")
    done = project.run("orchestrate", "--until-idle", "--json", "--log-json")
    assert done.code == 0, done.err
    (warning,) = [json.loads(line) for line in done.err.splitlines()]
    assert warning["level"] == "warning"
    assert "demo#2" in warning["message"]
    types = [json.loads(line)["type"] for line in done.out.splitlines()]
    assert "CHANGE.PUBLISH.SUCCEEDED" in types
