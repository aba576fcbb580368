"""Claims about init, doctor, task and db: what a person does around the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamma.config.loader import load
from tamma.core.event import ApprovalAsked
from tamma.core.ids import TaskId
from tests.cli.ends import added, assert_ok, assert_plain, assert_told
from tests.support.project import FIX, GATE, Project, a_project

# init

REPOSITORIES = {
    "python": (
        {"pyproject.toml": '[project]\nname = "x"\nversion = "1"\n[tool.pytest.ini_options]\n', "tests/test_x.py": ""},
        "pytest",
    ),
    "node": (
        {"package.json": '{"name": "x", "scripts": {"test": "node --test"}}', "package-lock.json": "{}"},
        "node --test",
    ),
    "makefile": ({"Makefile": "test:\n\ttrue\n"}, "make"),
    "nothing": ({"notes.txt": "x"}, ""),
}


@pytest.mark.parametrize(("files", "program"), REPOSITORIES.values(), ids=REPOSITORIES)
def test_init_proposes_gates_that_load(tmp_path: Path, files: dict[str, str], program: str) -> None:
    """The file says what it is, loads as it stands, and its gates are those of the repository's kind."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with a_project(tmp_path, "") as project:
        done = assert_ok(project.run("init"))
        assert "next:" in done.out
        loaded = load(tmp_path / "tamma.toml", environ={})
        programs = " ".join(" ".join(gate.argv) for gate in loaded.config.gates)
        assert program in programs, programs
        assert bool(loaded.config.gates) == bool(program)
        assert (tmp_path / "tamma.toml").read_text().startswith("#")
        assert_told(project.run("init"), 2, "exists already", "--force")
        assert_ok(project.run("init", "--force"))


def test_init_writes_where_it_is_called_and_tells_what_is_left_to_do(tmp_path: Path) -> None:
    """Tamma's folder is not the checkout; the steps are those that are still open, as one would type them there."""
    home, checkout = tmp_path / "home", tmp_path / "my app"
    home.mkdir()
    checkout.mkdir()
    (checkout / "Makefile").write_text("test:\n\ttrue\n")
    with a_project(home, "") as project:
        told = assert_ok(project.run("init", "../my app")).out
        assert load(home / "tamma.toml", environ={}).config.gates[0].argv == ("make", "test")
        assert not (checkout / "tamma.toml").exists()
        assert "git clone --bare '../my app' forge/my-app/repo.git" in told
        assert told.index("git init '../my app'") < told.index("git clone")
        assert f"git -C '../my app' remote add tamma {home}/forge/my-app/repo.git" in told
        assert told.index("mkdir forge/my-app/issues\n") < told.index("forge/my-app/issues/1.md")
        for word in ("agent", "forge/my-app/issues/1.md", "tamma doctor", "--dry-run", "--until-idle"):
            assert word in told, told
        project.repository()
        project.issue()
        told = assert_ok(project.run("--config", "other.toml", "init", "../my app")).out
        assert (home / "other.toml").exists()
        assert "clone" not in told
        assert "1.md" not in told
        assert_told(project.run("-c", "x.toml", "init", "forge/demo/repo.git"), 2, "is a bare repository", "next:")


def test_init_inside_a_checkout_says_that_a_folder_of_its_own_is_better(tmp_path: Path) -> None:
    """It writes all the same: for CI the file may lie there."""
    with a_project(tmp_path, "") as project:
        assert "folder of its own" not in assert_ok(project.run("init")).out
        (tmp_path / ".git").mkdir()
        assert "folder of its own" in assert_ok(project.run("init", "--force")).out


def test_init_where_nothing_can_be_written_is_2(tmp_path: Path) -> None:
    """A folder that is not there, and one that is a file."""
    (tmp_path / "file").write_text("x")
    with a_project(tmp_path, "") as project:
        assert_told(project.run("init", "nowhere"), 2, "nowhere", "next:")
        assert project.run("init", "file").code == 2


# doctor


def test_doctor_tries_each_part(project: Project) -> None:
    """What is well, what is risky, how it stands in the last line, and on request every setting with where it came from; 0
    while nothing is broken."""
    three = {"TAMMA_LIMITS__RUNNING_MAX": "3"}
    done = assert_ok(project.run("doctor", env=three))
    for part in (
        "configuration",
        "state folder",
        "database",
        "forge",
        "repository demo",
        "agent of demo",
        "gates of demo",
        "environment of demo",
    ):
        assert f"ok     {part}" in done.out, done.out
    assert "warn   sandbox: unsandboxed" in done.out
    assert "database: postgresql://tamma@" in done.out, "which of several databases is the question"
    assert done.out.splitlines()[-1] == "0 broken, 1 warning"
    assert "limits.running_max" not in done.out
    shown = assert_ok(project.run("doctor", "--settings", env=three)).out
    assert "limits.running_max\t3\tTAMMA_LIMITS__RUNNING_MAX" in shown
    assert shown.splitlines()[-1] == "0 broken, 1 warning"
    assert not project.rows("SELECT 1 FROM task")


def test_doctor_says_which_part_is_broken(project: Project) -> None:
    """2, and the others are tried all the same; secrets are masked in both forms of the output."""
    url = "postgresql://tamma:pass-word@127.0.0.1:1/tamma"
    for options in ((), ("--json",)):
        done = project.run("doctor", *options, env={"DATABASE_URL": url})
        assert done.code == 2
        assert_plain(done)
        assert "pass-word" not in done.out + done.err
    checks = {check["part"]: check for check in done.json["checks"]}
    assert checks["database"]["state"] == "broken"
    assert checks["database"]["fix"]
    assert checks["repository demo"]["state"] == "ok"
    assert any(
        setting["key"] == "database.url" and "127.0.0.1" in setting["value"] for setting in done.json["settings"]
    )


def test_doctor_without_a_repository_says_where_to_put_one(tmp_path: Path) -> None:
    """The first run in an empty folder; the loop says the same, and makes nothing."""
    with a_project(tmp_path, "") as project:
        found = project.run("doctor")
        assert found.code == 2
        assert found.out.splitlines()[-1].startswith("1 broken, ")
        assert "repo.git" in found.out
        assert "warn   configuration: " in found.out
        for command in (
            ("orchestrate", "--until-idle"),
            ("orchestrate", "--dry-run"),
            ("status",),
            ("task", "add", "1"),
        ):
            told = project.run(*command)
            assert_told(
                told, 2, "no tamma.toml was found", f"none is in {tmp_path}", "there is no ", "--config", "tamma init"
            )
        (tmp_path / "tamma.toml").touch()
        assert_told(project.run("orchestrate", "--until-idle"), 2, "there is no repository", "repo.git")
        assert not (tmp_path / ".tamma" / "postgres").exists()


# task


def test_task_add_is_idempotent_and_ignores_the_label(project: Project) -> None:
    """A person who names an issue has asked for it; asking twice makes one task."""
    project.issue("2", labels=[])
    first, second = (assert_ok(project.run("task", "add", "demo#2")).out for _ in range(2))
    assert first == f"{project.task_id('2')}\n"
    assert "tamma work --task-id demo#2" in assert_ok(project.run("task", "add", "demo#2")).err, "what happens next"
    assert first == second
    assert project.rows("SELECT count(*) FROM task") == [(1,)]
    assert_told(project.run("task", "add", "demo#99"), 3, "demo#99", "next:")
    project.issue("3", state="closed")
    assert_told(project.run("task", "add", "demo#3"), 4, "closed", "next:")


def test_task_cancel_ends_a_task_once(project: Project) -> None:
    """With its reason in the log and on the issue."""
    task = added(project)
    assert assert_ok(project.run("task", "cancel", task, "--reason", "no longer wanted")).out == "cancelled\n"
    assert_told(project.run("task", "cancel", task), 4, "was cancelled already", "next:")
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert "no longer wanted" in project.issue_text()
    assert not project.branches()


def test_task_retry_makes_the_next_generation(project: Project) -> None:
    """With the issue's text of that day; only from the newest, and not while it runs."""
    project.configure(steps='{ exhaust = "enough" }')
    assert project.run("work", "--issue", "demo#1").code == 12
    first = project.task_id()
    project.configure(steps=FIX)
    second = assert_ok(project.run("task", "retry", first)).out.strip()
    assert second == project.task_id(generation=2)
    assert_told(project.run("task", "retry", first), 4, second, "next:")
    assert_ok(project.run("work", "--task-id", second))
    assert project.rows("SELECT generation, state FROM task ORDER BY 1") == [(1, "failed"), (2, "succeeded")]


def test_task_approve_publishes_that_very_commit(project: Project) -> None:
    """A change that waits for approval is kept; approving delivers the commit that was judged, without another agent run."""
    project.configure(GATE + "[change]\napprove_before_publish = true\n")
    assert_told(project.run("work", "--issue", "demo#1"), 13, "waits for approval", "tamma task approve")
    assert not project.branches()
    task = project.task_id()
    assert "a + b" in assert_ok(project.run("task", "patch", task)).out
    (commit,) = (e.fact.commit for e in project.events() if isinstance(e.fact, ApprovalAsked))
    assert commit in assert_ok(project.run("task", "approve", task)).out
    assert_told(project.run("task", "approve", task), 4, "waits for nobody")
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert project.branches() == {"tamma/1": commit}
    assert project.types().count("AGENT.RUN.STARTED") == 1


def test_a_task_is_named_by_its_short_id_or_its_issue(project: Project) -> None:
    """What `status` shows in its table is accepted back, as are four characters, and the issue for its newest task."""
    project.configure(steps='{ block = "Which parser?" }')
    task = added(project)
    (row,) = [line.split("\t") for line in assert_ok(project.run("status")).out.splitlines() if "demo#1" in line]
    short = row[4]
    assert (len(short), task.startswith(short)) == (8, True)
    assert project.run("work", "--task-id", short).code == 13
    assert "tamma task approve demo#1" in assert_ok(project.run("explain", short.upper()[:4])).out
    assert "demo#1\tblocked\tthe agent asks: Which parser?\t" in assert_ok(project.run("status")).out
    approved = assert_ok(project.run("task", "approve", short))
    assert (approved.out, "next: an orchestrator starts it" in approved.err) == ("queued\n", True)
    cancelled = assert_ok(project.run("task", "cancel", "demo#1"))
    assert (cancelled.out, "next: an orchestrator tells the issue" in cancelled.err) == ("cancelled\n", True)
    second = TaskId(assert_ok(project.run("task", "retry", "1")).out.strip())
    assert second == project.task_id(generation=2)
    assert assert_ok(project.run("task", "cancel", "demo#1")).out == "cancelled\n"
    assert project.state(second) == ("cancelled", "cancelled")


def test_the_beginning_of_several_ids_lists_them(project: Project) -> None:
    """Nothing is done to any; what is written tells more of them apart."""
    first, second = "abcd1111-1111-4111-8111-111111111111", "abcd2222-2222-4222-8222-222222222222"
    for number, wanted in (("1", first), ("2", second)):
        project.issue(number)
        added(project, number)
        project.rows("UPDATE task SET id = %s WHERE id = %s RETURNING 1", wanted, project.task_id(number))
    told = project.run("task", "cancel", "abcd")
    assert_told(told, 2, f"{first} demo#1 queued", f"{second} demo#2 queued", "next:")
    assert project.rows("SELECT DISTINCT state FROM task") == [("queued",)]
    assert_told(project.run("task", "cancel", "abce"), 3, "abce", "tamma status")
    assert_told(project.run("explain", "abcd"), 2, first)
    assert_ok(project.run("task", "cancel", "abcd2"))
    assert project.rows("SELECT id FROM task WHERE state = 'cancelled'") == [(second,)]


def test_task_commands_refuse_ids_that_are_none(project: Project) -> None:
    """Malformed is 2, unknown is 3, for each of them."""
    for command in ("retry", "cancel", "approve", "patch"):
        assert_told(project.run("task", command, "seven"), 2, "seven", "next:")
    assert_told(project.run("task", "patch", project.task_id()), 3, "no task", "next:")
    assert_told(project.run("task", "cancel", "demo#1"), 3, "demo#1 has no task", "next:")
    added(project)
    assert_told(project.run("task", "patch", project.task_id()), 3, "left no work", "next:")


# db


def test_db_on_a_configured_server(project: Project) -> None:
    """Upgrading a current one changes nothing; a server that is not ours is not stopped."""
    assert "the schema is at" in assert_ok(project.run("db", "upgrade")).out
    assert_told(project.run("db", "stop"), 2, "not Tamma's to stop", "next:")
    assert_told(project.run("db", "url"), 2, "a URL is configured", "next:")


def test_db_on_the_embedded_server(bare_project: Project) -> None:
    """No database: every command that looks says so; then it is made, addressed, stopped, and found again."""
    project = bare_project
    for command in (("status",), ("explain", "demo#1"), ("events",), ("task", "add", "demo#1"), ("db", "url")):
        assert_told(project.run(*command), 2, "there is no database yet", "next:")
    assert assert_ok(project.run("db", "stop")).out == "it was not running\n"
    assert_ok(project.run("orchestrate", "--dry-run"))
    assert not (project.root / ".tamma").exists()
    assert_ok(project.run("db", "upgrade"))
    url = assert_ok(project.run("db", "url")).out.strip()
    assert url.startswith("postgresql://")
    assert assert_ok(project.run("db", "stop")).out == "stopped\n"
    assert "no tasks yet" in assert_ok(project.run("status")).out


def test_help_of_every_command_is_plain_and_whole(project: Project) -> None:
    """`--help` works everywhere, before any configuration is read."""
    (project.root / "tamma.toml").write_text("not toml at all [")
    for command in (
        "",
        "orchestrate",
        "work",
        "status",
        "explain",
        "events",
        "init",
        "doctor",
        "db",
        "db upgrade",
        "task",
        "task approve",
    ):
        done = assert_ok(project.run(*command.split(), "--help"))
        assert "Usage: " in done.out
    version = assert_ok(project.run("--version")).out
    assert version.startswith("tamma ")
