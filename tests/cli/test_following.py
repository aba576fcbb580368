"""``tamma events --follow`` while the database is restarted: it says so once, goes on, and misses nothing."""

from __future__ import annotations

import json

from tests.cli.ends import assert_ok
from tests.support.project import Project
from tests.support.wire import a_wire


def test_following_outlives_the_database_being_away(project: Project) -> None:
    """What was written while nobody could look is shown afterwards."""
    assert_ok(project.run("orchestrate", "--once", env={"TAMMA_LIMITS__WORKERS": "0"}))
    task = project.task_id()
    with a_wire(project.database_url) as wire:
        child = project.start("events", "--follow", "--json", "--task", task, env={"DATABASE_URL": wire.url})
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline())["type"] == "TASK.CREATE.SUCCEEDED"
        wire.refuse()
        wire.cut()
        assert "the database is away" in child.stderr.readline()
        assert "why: " in child.stderr.readline()
        assert "it is waited for" in child.stderr.readline()
        assert_ok(project.run("task", "cancel", task))
        wire.mend()
        assert json.loads(child.stdout.readline())["type"] == "TASK.CANCEL.SUCCEEDED"
        child.kill()
        rest = child.stderr.read()
    assert rest.count("the database is back") == 1
    assert "is away" not in rest
