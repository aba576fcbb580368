"""The names of the fail points are those that code reaches: none is dead, none is missing from the list."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from tamma.bootstrap.sessions import open_worker
from tamma.core.errors import ExitCode
from tamma.engine.failpoints import FAIL_POINTS
from tests.faults.test_worker_killed import NEEDS_REPAIR, PROUD_GATE
from tests.faults.world import queue
from tests.support.project import Project


@dataclass(frozen=True, slots=True)
class Recorded:
    """Remembers what was reached."""

    names: list[str] = field(default_factory=list)

    def reach(self, name: str) -> None:
        """Note it."""
        self.names.append(name)


def test_a_normal_run_reaches_every_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt with one repair comes by all of them, and by nothing that the list does not name."""
    project.configure(PROUD_GATE, steps=None)
    project.script(**NEEDS_REPAIR)
    [task] = queue(project)
    monkeypatch.chdir(project.root)
    for name, value in project.environ().items():
        monkeypatch.setenv(name, value)
    reached = Recorded()
    with open_worker(None, by_issue=False) as session:
        done = replace(session, deps=replace(session.deps, fail_points=reached)).work(task)
    assert done.exit_code is ExitCode.DELIVERED, done
    assert set(reached.names) == FAIL_POINTS


def test_a_name_that_nothing_reaches_is_refused(project: Project) -> None:
    """A typo would test nothing: 2, and the name that was meant."""
    done = project.run("work", "--issue", "demo#1", env={"TAMMA_FAILPOINTS": "push.after_efect=kill"})
    assert done.code == 2, (done.err, done.out)
    assert "push.after_effect" in done.err
    assert project.run("orchestrate", "--once", env={"TAMMA_FAILPOINTS": "nowhere=kill"}).code == 2
