"""Claims about the storm and its oracle: a hundred kills cost nothing, and the oracle sees what it is there to see."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tamma.adapters.postgres.connect import with_database
from tamma.engine.failpoints import FAIL_POINTS
from tests.chaos.oracle import INVARIANTS, Scene, violations
from tests.chaos.resources import BOUNDS, Sample, not_flat
from tests.chaos.storm import PLACES
from tests.support.project import a_project, git, wait_until

TOP = Path(__file__).parents[2]
PHASES = {place.partition(".")[0] for place in PLACES} | {"loop"}


def test_workers_are_killed_at_every_boundary_there_is() -> None:
    """The storm's own list of places is the product's."""
    assert set(PLACES) == FAIL_POINTS


@pytest.mark.timeout(660)
def test_a_storm_costs_nothing() -> None:
    """Two minutes of it, and a hundred kills: every issue is delivered once, every invariant holds, what is used up is flat."""
    argv = [sys.executable, "-m", "tests.chaos", "--minutes", "2", "--kills", "100", "--seed", "20", "--json"]
    done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["violations"] == {}
    assert found["killed"] >= 100
    assert found["phases"].keys() >= PHASES, found["phases"]
    assert found["resources"].keys() == {"start", "middle", "end"}


@pytest.mark.parametrize("name", BOUNDS)
def test_what_grows_is_seen(name: str) -> None:
    """Each measure, when it alone goes up by twice its bound; and nothing is said of a run in which all stay."""

    def sample(seconds: float, **grown: float) -> Sample:
        measures: dict[str, Any] = dict.fromkeys((*BOUNDS, "issues"), 10) | grown
        return Sample(seconds=seconds, **measures)

    flat = [sample(n) for n in range(40)]
    assert list(not_flat(flat)) == []
    grown = [sample(n, **{name: 10 + BOUNDS[name].at_once * 4 * n / 40}) for n in range(40)]
    assert [line.partition(" ")[0] for line in not_flat(grown)] == [name]


@pytest.fixture(scope="module")
def delivered(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, database_template: str
) -> Iterator[Scene]:
    """Two issues, delivered; nothing is against it."""
    root = tmp_path_factory.mktemp("delivered")
    with a_copy(postgres_server, database_template) as url:
        with a_project(root, url) as project:
            project.repository()
            project.issue("1")
            project.issue("2")
            project.configure()
            assert project.run("orchestrate", "--until-idle").code == 0
        scene = Scene(root=root, database_url=url, issues=dict.fromkeys("12", "demo"), secret="canary")
        assert {name: found for name, found in violations(scene).items() if found} == {}
        yield scene


@pytest.fixture
def scene(delivered: Scene, postgres_server: str, tmp_path: Path) -> Iterator[Scene]:
    """The same in a folder and a database of the test's own, to be spoilt."""
    shutil.copytree(delivered.root, tmp_path, symlinks=True, dirs_exist_ok=True)
    with a_copy(postgres_server, conninfo_to_dict(delivered.database_url)["dbname"]) as url:
        yield replace(delivered, root=tmp_path, database_url=url)


@contextmanager
def a_copy(server: str, template: object) -> Iterator[str]:
    """A database like another."""
    name = f"chaos_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        yield with_database(server, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def sql(statement: str) -> Callable[[Scene], None]:
    def spoil(scene: Scene) -> None:
        with psycopg.connect(scene.database_url) as connection:
            connection.execute("SET session_replication_role = replica")
            assert connection.execute(statement).rowcount > 0

    return spoil


def second_comment(scene: Scene) -> None:
    path = scene.forge("demo") / "issues" / "1.md"
    path.write_text(path.read_text() + "\n<!-- tamma:notice=delivered task=x -->\n")


def second_change(scene: Scene) -> None:
    path = next((scene.forge("demo") / "changes").glob("*.md"))
    path.with_name("9.md").write_text(path.read_text())


def stray_branch(scene: Scene) -> None:
    git("branch", "-q", "stray", "main", cwd=scene.forge("demo") / "repo.git")


def other_tree(scene: Scene) -> None:
    git("update-ref", "refs/heads/tamma/1", "refs/heads/main", cwd=scene.forge("demo") / "repo.git")


def left_checkout(scene: Scene) -> None:
    (scene.root / ".tamma" / "workspaces" / "x" / "1").mkdir(parents=True)


def canary_in_issue(scene: Scene) -> None:
    path = scene.forge("demo") / "issues" / "2.md"
    path.write_text(path.read_text() + "canary")


SPOILED: dict[str, list[Callable[[Scene], None]]] = {
    "I1 nothing is lost": [sql("UPDATE task SET outcome = 'cancelled' WHERE issue = '1'")],
    "I2 nothing is done twice": [second_comment, second_change],
    "I3 no stale holder wrote": [sql("UPDATE event SET data = data || '{\"epoch\": 0}' WHERE type = 'TASK.SETTLE.SUCCEEDED'")],
    "I4 the log is whole": [
        sql("DELETE FROM event WHERE version = 3"),
        sql("UPDATE event SET at = at + interval '1 microsecond' WHERE version = 2"),
        sql("DELETE FROM event WHERE type = 'TASK.NOTICE.SUCCEEDED'"),
    ],
    "I5 every effect was intended": [
        sql("DELETE FROM event WHERE type = 'EFFECT.INTEND.SUCCEEDED'"),
        sql("UPDATE effect SET state = 'intended'"),
    ],
    "I7 nothing is left over": [left_checkout, sql("UPDATE effect SET held_by = 'x', held_until = now()")],
    "I8 no secret is out": [canary_in_issue, sql("UPDATE task SET reason = 'the canary'")],
    "I9 every step is legal": [
        sql("UPDATE event SET data = data || '{\"state\": \"queued\"}' WHERE type = 'TASK.SETTLE.SUCCEEDED'"),
        sql("DELETE FROM event WHERE type = 'TASK.CLAIM.SUCCEEDED'"),
    ],
    "I10 nothing is pushed elsewhere": [stray_branch, other_tree],
}  # fmt: skip


def test_every_invariant_is_tried() -> None:
    """Each goes red for what breaks it: else its silence would mean nothing."""
    assert SPOILED.keys() == INVARIANTS.keys()


@pytest.mark.parametrize(("name", "spoil"), [(name, spoil) for name, ways in SPOILED.items() for spoil in ways])
def test_the_oracle_sees_what_it_is_there_to_see(scene: Scene, name: str, spoil: Callable[[Scene], None]) -> None:
    """Content before, not after."""
    assert list(INVARIANTS[name](scene)) == []
    spoil(scene)
    assert list(INVARIANTS[name](scene)) != []


def test_a_project_has_no_process_left(scene: Scene) -> None:
    """A worker that goes on after the loop is seen by the oracle."""
    with a_project(scene.root, scene.database_url) as project:
        child = project.start("events", "--follow", env={"TAMMA_LOG__LEVEL": "INFO"})
        wait_until(lambda: any("still runs" in line for line in INVARIANTS["I7 nothing is left over"](scene)))
        child.kill()
