"""The log tells the tables: after a life with every kind of end, at random moments of it, and never by accident."""

from __future__ import annotations

import random

import pytest

from tamma.core.event import FACTS
from tamma.core.fold import fold
from tests.faults.world import EDIT, ended, finish, queue, start_work
from tests.support.fold_check import assert_fold_equals_tables, assert_same, events_of, tables_of
from tests.support.project import Project

WRONG = '{ append = "calc.py", text = "# no use" }'
FATES = {
    "1": EDIT,
    "2": '{ fail = "no idea" }',
    "3": '{ block = "which sum?" }',
    "4": '{ exhaust = "no money left" }',
    "5": WRONG,
    "6": '{ write = "tamma.toml", text = "" }',
}

WRITES = {
    "UPDATE task SET priority = priority + 1": "UPDATE task SET priority = priority - 1",
    "UPDATE task SET attempts = attempts + 1": "UPDATE task SET attempts = attempts - 1",
    "UPDATE task SET outcome = 'blocked'": "UPDATE task SET outcome = 'delivered'",
    "UPDATE task SET notice = NULL": "UPDATE task SET notice = 'delivered'",
    "UPDATE task SET version = version + 1": "UPDATE task SET version = version - 1",
    "UPDATE effect SET state = 'intended'": "UPDATE effect SET state = 'done'",
    "UPDATE worker SET state = 'offline' WHERE role = 'worker'": "UPDATE worker SET state = 'online' WHERE role = 'worker'",
}


def test_the_log_tells_a_life_with_every_kind_of_end(project: Project) -> None:
    """Delivered, failed, blocked, spent, refused, killed, cancelled, retried: the log tells the tables, and a prefix of it
    folds with the rest on top to the same, so that no event leans on a table."""
    live_through(project)
    events, held = events_of(project.database_url), tables_of(project.database_url)
    assert_same(fold(events), held)
    assert {task.state.value for task in held.tasks.values()} == {
        "succeeded",
        "failed",
        "blocked",
        "cancelled",
        "queued",
    }
    told = {event.fact.TYPE for event in events}
    elsewhere = {
        "ENVIRONMENT.PREPARE.SUCCEEDED",
        "ATTEMPT.WORK.SALVAGED",
        "ATTEMPT.APPROVAL.ASKED",
        "LOG.ARCHIVE.SUCCEEDED",
    }
    assert FACTS.keys() - told <= elsewhere
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for cut in [0, 1, len(events), *(chance.randrange(len(events)) for _ in range(20))]:
        assert fold(events[cut:], start=fold(events[:cut])) == fold(events), (seed, cut)


def test_a_write_without_an_event_is_found(project: Project) -> None:
    """The check that every project test ends with is not blind: each write makes it fail until it is undone."""
    [task] = queue(project)
    assert ended(start_work(project, task, "settle.after_effect=kill")).code == -9
    for write, undo in WRITES.items():
        assert project.rows(f"{write} RETURNING 1"), write
        with pytest.raises(AssertionError, match="differ from the fold"):
            assert_fold_equals_tables(project.database_url)
        assert project.rows(f"{undo} RETURNING 1"), undo
        assert_fold_equals_tables(project.database_url)


def live_through(project: Project) -> None:
    """Issues with every fate, one of them killed on the way, one cancelled, one asked for again."""
    project.env["TAMMA_RETRY__ATTEMPTS_MAX"] = "2"
    for number in FATES:
        project.issue(number)
    project.script(*(f'[[play]]\nissue = "{number}"\nsteps = [{steps}]\n' for number, steps in FATES.items()))
    tasks = queue(project, FATES)
    assert ended(start_work(project, tasks[0], "push.after_effect=kill")).code == -9
    assert ended(start_work(project, tasks[1], "implement.after_enter=term")).code == 143
    finish(project)
    assert project.run("task", "approve", tasks[2]).code == 0
    assert project.run("task", "cancel", tasks[2]).code == 0
    assert project.run("pause").code == project.run("resume").code == 0
    assert project.run("task", "retry", tasks[3]).code == 0
