"""An attempt that is over is settled as soon as the database takes it."""

from __future__ import annotations

import signal

import psycopg

from tests.faults.world import assert_delivered_once, ended, epochs, queue, start_work, wait_until_stopped
from tests.support.project import Project, wait_until

IMPATIENT = {"TAMMA_LEASE__DURATION_SECONDS": "60"}
REFUSALS = 3


def test_a_settling_that_the_database_refuses_for_a_while_is_no_crash(project: Project) -> None:
    """Somebody else holds the row for longer than a statement waits: the attempt's end is tried again, and counts as it came."""
    [task] = queue(project)
    options = "options=-c%20lock_timeout%3D100"
    url = f"{project.database_url}{'&' if '?' in project.database_url else '?'}{options}"
    worker = start_work(project, task, "settle.before_effect=stop@1", **IMPATIENT, DATABASE_URL=url)
    wait_until_stopped(worker)
    seen: set[object] = set()

    def is_refused_often() -> bool:
        waits = "SELECT waitstart FROM pg_locks WHERE NOT granted AND waitstart IS NOT NULL"
        seen.update(other.execute(waits).fetchall())
        return len(seen) > REFUSALS

    with psycopg.connect(project.database_url) as other:
        other.execute("SELECT FROM task WHERE id = %s FOR UPDATE", [task])
        worker.send_signal(signal.SIGCONT)
        wait_until(is_refused_often, what="a few refusals")
    done = ended(worker)
    assert done.code == 0, (done.err, done.out)
    assert_delivered_once(project, "1")
    assert epochs(project.events()) == [1]
