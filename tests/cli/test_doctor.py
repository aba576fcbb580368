"""Claims about what doctor finds before a worker does: programs that are not there, and changes that cannot be kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.ends import assert_ok, assert_plain
from tests.support.project import FILES, Project, a_project
from tests.support.small_disk import a_small_disk


@pytest.fixture
def scripts(tmp_path: Path) -> Any:
    """A repository that holds a script of its own, and one beside it."""
    with a_project(tmp_path, "") as project:
        project.repository({**FILES, "ci/check.sh": "#!/bin/sh\n"})
        project.issue()
        (tmp_path / "agent.sh").write_text("#!/bin/sh\n")
        yield project


def found(project: Project, agent: str = "true", gate: str = "true", cwd: str = ".") -> tuple[int, dict[str, Any]]:
    """The exit code of doctor, and what it says of each part."""
    project.configure(
        f'[agent]\nargv = [{json.dumps(agent)}]\n[[gates]]\nname = "check"\nargv = [{json.dumps(gate)}]\ncwd = "{cwd}"\n',
        steps=None,
    )
    done = project.run("doctor", "--json")
    assert_plain(done)
    return done.code, {check["part"]: check for check in done.json["checks"]}


def test_programs_that_are_not_there_are_told(scripts: Project) -> None:
    """On PATH, by a whole path, and in the checkout, which is what a relative path means."""
    for program, told in (
        ("no-such-program", "not on PATH"),
        ("/no/such/program", "/no/such/program is not there"),
        (str(scripts.root / "agent.sh"), "is not executable"),
        ("ci/nothing.sh", "ci/nothing.sh is not in the base commit"),
        ("~/agent.sh", "~ stays as it is"),
        ("{environment}/bin/python", "needs {environment}"),
    ):
        code, checks = found(scripts, agent=program, gate=program)
        assert code == 2
        for part in ("agent of demo", "gates of demo"):
            assert checks[part]["state"] == "broken", checks[part]
            assert told in checks[part]["detail"]
            assert checks[part]["fix"]


def test_a_program_beside_the_configuration_is_none_of_the_checkout(scripts: Project) -> None:
    """The most likely mistake, told with the path that is right."""
    _, checks = found(scripts, agent="./agent.sh")
    assert "relative to the checkout" in checks["agent of demo"]["detail"]
    assert str(scripts.root / "agent.sh") in checks["agent of demo"]["fix"]


def test_a_dry_run_tells_that_an_agent_cannot_be_started(scripts: Project) -> None:
    """Though it would start a worker: that would hand each issue to a human."""
    scripts.configure(f"[agent]\nargv = ['{scripts.root}/agent.sh']\n", steps=None)
    done = assert_ok(scripts.run("orchestrate", "--dry-run"))
    assert "the agent of demo cannot be started: " in done.out
    assert "chmod +x" in done.out


@pytest.mark.parametrize("part", ["agent of demo", "gates of demo"])
def test_an_argument_that_is_a_file_beside_the_configuration_is_doubtful(scripts: Project, part: str) -> None:
    """`sh agent.sh` starts, and finds no agent.sh in the checkout; one that is committed, and a word that is no file, are fine."""
    for argument, state in (("agent.sh", "warning"), ("ci/check.sh", "ok"), ("no-file", "ok"), ("-c", "ok")):
        (scripts.root / "ci").mkdir(exist_ok=True)
        (scripts.root / "ci" / "check.sh").touch()
        argv = json.dumps(["sh", argument])
        agent, gate = (argv, '["true"]') if part.startswith("agent") else ('["true"]', argv)
        scripts.configure(f'[agent]\nargv = {agent}\n[[gates]]\nname = "check"\nargv = {gate}\n', steps=None)
        checks = {check["part"]: check for check in scripts.run("doctor", "--json").json["checks"]}
        assert checks[part]["state"] == state, checks[part]
        if state == "warning":
            assert str(scripts.root / "agent.sh") in checks[part]["fix"]


def test_programs_of_the_checkout_are_found_from_where_they_run(scripts: Project) -> None:
    """A gate's from its cwd."""
    assert found(scripts, agent="ci/check.sh", gate="./check.sh", cwd="ci")[0] == 0
    code, checks = found(scripts, gate="./check.sh")
    assert (code, checks["gates of demo"]["state"]) == (2, "broken")


def test_what_cannot_be_known_is_said(project: Project) -> None:
    """A program of the environment is there only once that is prepared."""
    project.configure(
        '[environment]\nsetup = [["true", "{environment}"]]\n[[gates]]\nname = "check"\nargv = ["{environment}/check"]\n'
    )
    done = project.run("doctor")
    assert done.code == 0, done.out
    assert "ok     gates of demo: check; {environment}/check is known only when it runs" in done.out


def test_a_forge_on_a_full_disk_is_told(project: Project) -> None:
    """An empty file can still be made there, and says nothing."""
    folder = project.root / "forge" / "demo" / "changes"
    with a_small_disk(folder, megabytes=1) as disk:
        disk.fill()
        done = project.run("doctor")
    line = next(line for line in done.out.splitlines() if "changes of demo" in line)
    assert done.code == 2
    assert f"{folder} cannot be written to: No space left on device" in line


def test_changes_that_cannot_be_read_or_kept_are_told(project: Project) -> None:
    """The one may hold up a branch, the other every delivery of the repository."""
    changes = project.root / "forge" / "demo" / "changes"
    changes.mkdir()
    (changes / "1.md").write_text("---\ntitle: [unclosed\n---\n")
    unreadable = project.run("doctor")
    assert "warn   repository demo: " in unreadable.out
    assert "1.md" in unreadable.out
    (changes / "1.md").unlink()
    changes.rmdir()
    changes.write_text("")
    no_folder = project.run("doctor")
    assert no_folder.code == 2
    assert "BROKEN changes of demo: " in no_folder.out
    for done in (unreadable, no_folder):
        assert_plain(done)
