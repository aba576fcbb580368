"""The recipes of docs/operations.md do what they say: each block is read out of the page and run, only its places replaced."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.install import find_binaries
from tamma.adapters.postgres.migrate import downgrade, status
from tests.cli.ends import assert_ok, assert_told
from tests.faults.world import EDIT, SHORT_LEASE
from tests.support.project import FIX, GATE, Done, Project, a_project, git, pids_with, wait_until
from tests.support.sample import sample

PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
# A section, or a paragraph of the runbook; a block belongs to the nearest above it.
_PARTS: Final = re.compile(r"^(?:## (?P<section>[^\n]+)|\*\*(?P<case>… [^*]+?)\.?\*\*)|^```sh\n(?P<block>.*?)^```$", re.DOTALL | re.MULTILINE)  # fmt: skip
BEFORE: Final = ("Install", "Look")  # the README's tests and those of the commands show these
# What a machine with systemd does: the unit stops the embedded server at its end, heeding no refusal. A test's loop has an end.
PLACES: Final = {
    "systemctl stop tamma": "tamma db stop || true",
    "systemctl start tamma": "tamma orchestrate --until-idle",
    "tamma-2026-11-23.tamma": "tamma-*.tamma",
    "/opt/tamma/bin/pip install": "true",
    "'…'": "'secret'",
}
Follower = Callable[[Project, list[str]], None]
FOLLOWERS: Final[dict[str, Follower]] = {}


def blocks(page: str) -> dict[str, list[str]]:
    """The shell blocks of a page, in order, by what they stand under."""
    found: dict[str, list[str]] = {}
    title = ""
    for part in _PARTS.finditer(page):
        title = part["section"] or part["case"] or title
        if part["block"]:
            found.setdefault(title, []).append(part["block"])
    return {title: recipes for title, recipes in found.items() if title not in BEFORE}


RECIPES: Final = blocks(PAGE)


def follows(title: str) -> Callable[[Follower], Follower]:
    """The test of what stands under a title."""

    def enter(follower: Follower) -> Follower:
        FOLLOWERS[title] = follower
        return follower

    return enter


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to begin each recipe with: one delivered issue, and what the page keeps elsewhere; nothing runs."""
    root = tmp_path_factory.mktemp("recipes") / "work"
    root.mkdir()
    with a_project(root, "") as made:
        made.repository()
        made.issue("12")
        made.configure()
        for folder in ("backups", "elsewhere"):
            (root / folder).mkdir()
        shutil.copytree(root / "forge", root / "backups" / "forge")
        assert_ok(made.run("orchestrate", "--until-idle"))
        assert "whole: " in follow(made, RECIPES["Back up and restore"][0])
        made.run("db", "stop")
        copy(root, root.with_name("origin"))
        yield root.with_name("origin")


@pytest.fixture
def project(origin: Path) -> Iterator[Project]:
    """That folder, always at the same place, and its embedded database."""
    root = origin.with_name("work")
    shutil.rmtree(root)
    copy(origin, root)
    with a_project(root, "") as made:
        yield made
        EmbeddedPostgres(root / ".tamma" / "postgres").stop("immediate")


def copy(source: Path, target: Path) -> None:
    """With its owners: as root, the server runs as somebody else."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def follow(project: Project, recipe: str, **places: str) -> str:
    """Run it in Tamma's folder as it stands, with places of the test's own; it must end well. Returns what it printed."""
    done = attempt(project, recipe, **places)
    assert done.code == 0, (recipe, done.out, done.err)
    return done.out


def attempt(project: Project, recipe: str, **places: str) -> Done:
    """The same, however it ends."""
    root = project.root
    own = {"/var/backups": str(root / "backups"), "/elsewhere": str(root / "elsewhere"), "/srv/tamma": str(root)}
    for written, meant in (PLACES | own | places).items():
        recipe = recipe.replace(written, meant)
    recipe = re.sub(r"^tamma orchestrate$", "tamma orchestrate --until-idle", recipe, flags=re.MULTILINE)
    psql = find_binaries().program("psql").parent
    path = f"{Path(sys.executable).parent}:{psql}:{project.environ()['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe], cwd=root, env=project.environ() | {"PATH": path},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def kill_host(project: Project) -> None:
    """Loop, workers and agents at once; the database is elsewhere."""
    for pid in pids_with(f"HOME={project.root}"):
        if b"/postgres" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def new_host(project: Project, name: str) -> Project:
    """Another folder, with what the page wants there, and the backups."""
    root = project.root / name
    root.mkdir()
    for kept in ("tamma.toml", "agent.toml", "forge", "backups"):
        copy(project.root / kept, root / kept)
    return Project(root=root, database_url="", env=dict(project.env))


def newest(project: Project) -> Any:
    """The newest task of the issue of the page."""
    tasks = assert_ok(project.run("status", "--json")).json["tasks"]
    return next(task for task in tasks if task["issue"] == "12")


def ask_again(project: Project, *steps: str) -> None:
    """A new task for the issue, and the loop until it ends, with an agent that does this."""
    project.script(turn0=", ".join(steps))
    assert_ok(project.run("task", "retry", "demo#12"))
    assert_ok(project.run("orchestrate", "--until-idle"))


def seen(project: Project) -> tuple[list[str], str, dict[str, str]]:
    """What the world has of the issue."""
    return project.changes(), project.issue_text("12"), project.branches()


@pytest.mark.parametrize("title", sample(list(RECIPES), one_in=6))
def test_a_recipe_does_what_the_page_says(title: str, project: Project) -> None:
    """Every block from Pause on, in the whole run; else a few."""
    FOLLOWERS[title](project, RECIPES[title])


def test_no_recipe_is_without_a_follower() -> None:
    """Nor the other way round: a new block fails here first. The page's parts are told apart."""
    assert set(FOLLOWERS) == set(RECIPES)
    page = "## Pause\n```sh\na\n```\n## What\n**… the disk is full.** So\n\n```sh\nb\n```\n\n```sh\nc\n```\n**… it is away**, or\n```sh\nd\n```\n"
    assert blocks(page) == {"Pause": ["a\n"], "… the disk is full": ["b\n", "c\n"], "… it is away": ["d\n"]}


@follows("Pause")
def pause(project: Project, recipes: list[str]) -> None:
    """The status says so and why; afterwards nothing is paused."""
    [recipe] = recipes
    assert "release day" in follow(project, recipe)
    assert "release day" not in assert_ok(project.run("status")).out


@follows("Back up and restore")
def back_up_and_restore(project: Project, recipes: list[str]) -> None:
    """Before the block that restores, the database is moved aside as the page tells."""
    before = seen(project)
    keep, restore = recipes
    assert "whole: " in follow(project, keep)
    assert_ok(project.run("db", "stop"))
    (project.root / ".tamma" / "postgres").rename(project.root / "aside")
    assert "whole: " in follow(project, restore)
    assert "1 succeeded" in assert_ok(project.run("status")).out
    assert seen(project) == before


@follows("Archive")
def archive(project: Project, recipes: list[str]) -> None:
    """What would go, what goes, and the proof."""
    [recipe] = recipes
    follow(project, recipe)
    assert "1 succeeded" in assert_ok(project.run("status")).out


@follows("Roles")
def roles(project: Project, recipes: list[str]) -> None:
    """The role logs in, may add events and do nothing else to them, and the loop delivers as it."""
    [recipe] = recipes
    owner = assert_ok(project.run("db", "url")).out.strip()
    project.env["OWNER_URL"] = owner
    follow(project, recipe)
    mine = owner.replace("//tamma@", "//tamma_app:secret@")
    let_in(project, owner, mine)
    for change in ("UPDATE event SET version = 1", "DELETE FROM event", "TRUNCATE event"):
        with psycopg.connect(mine) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(change)
    project.env["DATABASE_URL"] = mine
    ask_again(project, FIX)
    assert newest(project)["state"] == "succeeded"


def let_in(project: Project, owner: str, mine: str) -> None:
    """An embedded server knows its owner alone; one of the operator's lets the new role in."""
    with (project.root / ".tamma" / "postgres" / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("local all tamma_app scram-sha-256\n")
    with psycopg.connect(owner) as connection:
        connection.execute("SELECT pg_reload_conf()")

    def is_in() -> bool:
        try:
            psycopg.connect(mine).close()
        except psycopg.OperationalError:
            return False
        return True

    wait_until(is_in, what="the new rule")


@follows("Upgrade")
def upgrade(project: Project, recipes: list[str]) -> None:
    """Around pip, which the page leaves to the newer checkout."""
    [recipe] = recipes
    follow(project, recipe)
    assert "1 succeeded" in assert_ok(project.run("status")).out


@follows("… a task is blocked")
def blocked(project: Project, recipes: list[str]) -> None:
    """Each of the three ways on, of a task that asked."""
    [recipe] = recipes
    approve, retry, cancel = recipe.strip().splitlines()
    ask_again(project, '{ block = "which sum?" }')
    for way, then in ((approve, "queued"), (retry, "queued"), (cancel, "cancelled")):
        assert newest(project)["state"] == "blocked"
        follow(project, way, TASK="demo#12")
        assert newest(project)["state"] == then
        assert_ok(project.run("orchestrate", "--until-idle"))


@follows("… a task hangs")
def hangs(project: Project, recipes: list[str]) -> None:
    """Its worker stops, and the issue is delivered by the next task."""
    [recipe] = recipes
    project.script(turn0='{ say = "here" }, { sleep = 600 }')
    assert_ok(project.run("task", "retry", "demo#12"))
    loop = project.start("orchestrate", "--until-idle", output=project.root / "loop.log")
    log = project.root / "loop.log"
    wait_until(lambda: "scripted started" in log.read_text(), what="the agent")
    project.script(turn0=FIX)
    follow(project, recipe)
    assert loop.wait(timeout=60) == 0, log.read_text()
    assert "it hangs" in project.issue_text("12")
    assert newest(project)["state"] == "succeeded"


@follows("… an issue kills its workers")
def poisoned(project: Project, recipes: list[str]) -> None:
    """It stops at its budget, another is served, and it is delivered once the cause is mended."""
    [recipe] = recipes
    project.script(turn0=FIX)
    assert_ok(project.run("task", "retry", "demo#12"))
    project.run("orchestrate", "--until-idle", env={"TAMMA_FAILPOINTS": "implement.after_enter=raise"})
    assert newest(project)["state"] == "failed"
    project.issue("13")
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert "tamma/13" in project.branches()
    assert follow(project, recipe).count("crashed") >= 3
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert newest(project)["state"] == "succeeded"


@follows("… the disk is full")
def disk_full(project: Project, recipes: list[str]) -> None:
    """The caches are gone, closed to writing as they were, and are made again."""
    [recipe] = recipes
    project.configure('[environment]\nsetup = [["mkdir", "-p", "{environment}/bin"]]\n' + GATE)
    ask_again(project, FIX)
    environments = project.root / ".tamma" / "environments"
    old = {path.name: path.stat().st_ino for path in environments.iterdir()}
    assert old
    follow(project, recipe)
    assert not environments.exists() or not {path.name for path in environments.iterdir()} & set(old)
    ask_again(project, FIX)
    assert newest(project)["state"] == "succeeded"


@follows("… the database is lost")
def database_lost(project: Project, recipes: list[str]) -> None:
    """What no server starts from is moved aside; what was delivered is known again, and not repeated."""
    [recipe] = recipes
    before = seen(project)
    (project.root / ".tamma" / "postgres" / "data" / "global" / "pg_control").unlink()
    assert "whole: " in follow(project, recipe)
    assert "1 succeeded" in assert_ok(project.run("status")).out
    assert seen(project) == before


@follows("… all has to go back to an older state")
def older_state(project: Project, recipes: list[str]) -> None:
    """What was done since is found in the world and not repeated; what was there is kept."""
    [recipe] = recipes
    project.issue("13")
    assert_ok(project.run("orchestrate", "--until-idle"))
    before = project.changes(), project.branches(), project.comments("13")
    said = follow(project, recipe)
    assert "1 succeeded" in said
    assert (project.changes(), project.branches(), project.comments("13")) == before
    assert (project.root / "backups" / "before.tamma").is_file()


@follows("… `tamma db verify` names a problem")
def tampered(project: Project, recipes: list[str]) -> None:
    """The event is named and kept as it is; the backup is whole and has all that the heads prove."""
    [recipe] = recipes
    with psycopg.connect(assert_ok(project.run("db", "url")).out.strip()) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE event SET data = data || '{\"gate\": \"x\"}' WHERE type = 'GATE.RUN.FINISHED'")
    assert "it is not what was written" in follow(project, recipe)
    for name in ("problems.txt", "problems.tamma"):
        assert (project.root / "elsewhere" / name).stat().st_size
    assert_ok(project.run("db", "verify"))


@follows("… the database is behind or ahead")
def wrong_version(project: Project, recipes: list[str]) -> None:
    """Behind, it is upgraded; ahead, that is refused, and nothing is changed."""
    [recipe] = recipes
    url = assert_ok(project.run("db", "url")).out.strip()
    downgrade(url, "0004")
    follow(project, recipe)
    assert status(assert_ok(project.run("db", "url")).out.strip()).is_current
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert_told(attempt(project, recipe), 2, "the database is ahead", "next:")


@follows("… the host is lost")
def host_lost(project: Project, recipes: list[str]) -> None:
    """The attempt of a killed host is done elsewhere by what the database has; and all of it by a backup."""
    elsewhere, restored = recipes
    project.env |= {"DATABASE_URL": assert_ok(project.run("db", "url")).out.strip()}
    project.script(turn0=f'{EDIT}, {{ say = "here" }}, {{ sleep = 600 }}')
    assert_ok(project.run("task", "retry", "demo#12"))
    project.start("orchestrate", env=SHORT_LEASE, output=project.root / "loop.log")
    wait_until(lambda: "scripted started" in (project.root / "loop.log").read_text(), what="the agent")
    kill_host(project)
    project.script(turn0=FIX)
    follow(new_host(project, "second"), elsewhere)
    assert newest(project)["state"] == "succeeded"
    del project.env["DATABASE_URL"]
    third = new_host(project, "third")
    assert "whole: " in follow(third, restored)
    assert "1 succeeded" in assert_ok(third.run("status")).out
    assert_ok(third.run("db", "stop"))


@follows("… the forge is lost, or was restored to an older state")
def forge_lost(project: Project, recipes: list[str]) -> None:
    """What it no longer has is delivered anew, once: by its label, or by a wish."""
    restored, asked = recipes
    git("update-ref", "refs/heads/main", project.branches()["tamma/12"], cwd=project.root / "forge/demo/repo.git")
    assert "demo#12" in follow(project, restored)
    assert (len(project.changes()), len(project.comments("12")), list(project.branches())) == (1, 1, ["tamma/12"])
    git("update-ref", "-d", "refs/heads/tamma/12", cwd=project.root / "forge/demo/repo.git")
    follow(project, asked)
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert (len(project.changes()), list(project.branches())) == (1, ["tamma/12"])


@follows("… a cached environment is no good")
def cached_environment(project: Project, recipes: list[str]) -> None:
    """Its key is in the events; without it, the next attempt builds it anew."""
    find, remove = recipes[0].strip().splitlines()
    project.configure('[environment]\nsetup = [["mkdir", "-p", "{environment}/bin"]]\n' + GATE)
    ask_again(project, FIX)
    [key] = set(re.findall(r'"key": "([0-9a-f]+)"', follow(project, find)))
    built = project.root / ".tamma" / "environments" / key
    assert built.is_dir()
    follow(project, remove, KEY=key)
    assert not built.exists()
    ask_again(project, FIX)
    assert built.is_dir()
