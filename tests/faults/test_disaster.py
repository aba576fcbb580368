"""The database destroyed under work and restored from a backup taken under work: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tests.chaos.oracle import Scene, violations
from tests.faults.world import EDIT, finish, finished
from tests.support.project import Project, a_project, git, pids_with, wait_until

ISSUES = 8
LATE = "9"
GATED = "SELECT DISTINCT data->>'tree' FROM event WHERE type = 'GATE.RUN.FINISHED' AND data->>'verdict' = 'pass'"
QUICK = """
[retry]
backoff_base_seconds = 0.05
backoff_max_seconds = 0.1

[limits]
tick_seconds = 0.2

[lease]
duration_seconds = 5
beat_seconds = 0.5
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Many issues, and an embedded database of the project's own."""
    with a_project(tmp_path, "") as made:
        made.repository()
        for number in range(1, ISSUES + 1):
            made.issue(str(number))
        made.configure(quick=QUICK, steps=None)
        held = f'{{ run = ["touch", "{tmp_path / "held"}"] }}, {{ run = ["sh", "-c", "while [ ! -e {tmp_path / "go"} ]; do sleep 0.05; done"] }}'
        made.script(
            *(
                f'[[play]]\nissue = "{issue}"\nsteps = [{steps}]'
                for issue, steps in (("1", f"{EDIT}, {held}"), ("*", EDIT))
            )
        )
        yield made
        EmbeddedPostgres(tmp_path / ".tamma" / "postgres").stop("immediate")


def told(project: Project) -> int:
    """How many issues the world has seen delivered."""
    return sum("tamma:delivered" in project.issue_text(str(number)) for number in range(1, ISSUES + 1))


def kill_all(project: Project) -> None:
    """Loop, workers, agents: everything but the server, at once."""
    for pid in pids_with(f"HOME={project.root}"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            if b"/postgres" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def test_a_backup_taken_under_load_brings_everything_back_once(project: Project) -> None:
    """Workers run while it is taken, and go on after it; then all die, and the database is gone. Judged by the oracle of the
    storms, which asks git, the forge's files and the restored database alone."""
    project.start("orchestrate", "--workers", "3", output=project.root / "loop.log")
    wait_until(lambda: told(project) >= 2 and (project.root / "held").exists(), seconds=60, what="work")
    taken = finished(project.run("db", "backup", "kept.tamma", timeout=120))
    assert "whole: " in taken.out
    seen = told(project)
    (project.root / "go").touch()
    wait_until(lambda: told(project) >= min(seen + 3, ISSUES), seconds=60, what="work that the backup knows nothing of")
    kill_all(project)
    project.issue(LATE)
    killed = project.run("work", "--issue", f"demo#{LATE}", env={"TAMMA_FAILPOINTS": "push.after_effect=kill"})
    assert killed.code == -signal.SIGKILL, killed.err
    server = EmbeddedPostgres(project.root / ".tamma" / "postgres")
    url, numbers = server.url(), (*(str(number) for number in range(1, ISSUES + 1)), LATE)
    scene = Scene(
        root=project.root, database_url=url, issues=dict.fromkeys(numbers, "demo"), secret="canary-of-disaster"
    )
    gated = frozenset(tree for (tree,) in scene.rows(GATED))
    server.stop("immediate")
    shutil.rmtree(project.root / ".tamma" / "postgres")
    finished(project.run("db", "restore", "kept.tamma"))
    scene = replace(scene, database_url=finished(project.run("db", "url")).out.strip(), trees=gated)
    then = project.run("status", "--json").json["counts"]
    assert 0 < then["succeeded"] < told(project), "the world is ahead of what was restored"
    assert then["running"] > 0, "an attempt ran when the backup was taken"
    finish(project)
    asked = free_orphans(project, scene)
    found = {name: against for name, against in violations(scene).items() if against}
    questions = [f"issue {number} has 2 comments" for number in asked]  # the question, and the delivery
    assert found == {"I2 nothing is done twice": questions}
    finished(project.run("db", "verify"))


def orphans(project: Project) -> list[str]:
    """Issues with a branch and no change: pushed between the backup and the kill, by a record that is lost."""
    delivered = {
        f"tamma/{number}" for number in re.findall(r"^head: tamma/(\S+)$", "\n".join(project.changes()), re.MULTILINE)
    }
    return [branch.removeprefix("tamma/") for branch in sorted(project.branches()) if branch not in delivered]


def free_orphans(project: Project, scene: Scene) -> list[str]:
    """What the runbook asks of people: nobody can prove whose such a branch is, so they delete it and approve."""
    left = orphans(project)
    assert LATE in left
    blocked = {issue for (issue,) in scene.rows("SELECT issue FROM task WHERE state = 'blocked'")}
    assert blocked == set(left), "people are asked about nothing else"
    for number in left:
        git("update-ref", "-d", f"refs/heads/tamma/{number}", cwd=project.root / "forge" / "demo" / "repo.git")
        finished(project.run("task", "approve", f"demo#{number}"))
    finish(project)
    return left
