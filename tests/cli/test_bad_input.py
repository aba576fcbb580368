"""Claims about bad input: a clear error with what, why and what next, the right code, no traceback, and others unaffected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from tests.cli.ends import added, assert_ok, assert_plain, assert_told
from tests.support.project import FIX, GATE, Done, Project, a_project, git
from tests.support.sample import sample

NOWHERE = "postgresql://tamma:pass-word@127.0.0.1:1/tamma"


def garbage(project: Project) -> None:
    (project.root / "tamma.toml").write_bytes(bytes(range(256)) * 8)


def dangling(project: Project) -> None:
    (project.root / "tamma.toml").unlink()
    (project.root / "tamma.toml").symlink_to("nowhere.toml")


def folder(project: Project) -> None:
    (project.root / "tamma.toml").unlink()
    (project.root / "tamma.toml").mkdir()


def with_text(text: str) -> Callable[[Project], None]:
    return lambda project: project.configure(text)


CONFIGURATIONS: dict[str, tuple[Callable[[Project], None], tuple[str, ...]]] = {
    "unknown-key": (with_text("[select]\nlabl = 'x'\n"), ("select.labl", "label")),
    "unknown-section": (with_text("[selekt]\nlabel = 'x'\n"), ("selekt", "select")),
    "wrong-type": (with_text("[lease]\nduration_seconds = 'long'\n"), ("lease.duration_seconds",)),
    "out-of-bounds": (with_text("[lease]\nmissed_beats_max = 0\n"), ("lease.missed_beats_max",)),
    "not-toml": (with_text("[lease\n"), ("is not valid TOML", "line")),
    "binary": (garbage, ("tamma.toml",)),
    "a-folder": (folder, ("tamma.toml",)),
    "a-link-to-nothing": (dangling, ("tamma.toml",)),
    "no-script": (with_text('[agent]\nkind = "scripted"\n'), ("no script", "agent.script")),
    "no-agent": (with_text('[agent]\nkind = "command"\n'), ("no agent is configured", "agent.argv")),
    "state-in-a-file": (with_text('[state]\nfolder = "agent.toml/state"\n'), ("agent.toml/state", "state.folder")),
}


@pytest.mark.parametrize(("spoil", "words"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_wrong_configuration_is_2_and_names_the_key(
    project: Project, spoil: Callable[[Project], None], words: tuple[str, ...]
) -> None:
    """Whoever starts the loop is told at once which key is wrong and what would be right; nothing is taken."""
    spoil(project)
    assert_told(project.run("orchestrate", "--until-idle"), 2, "next:", *words)
    assert not project.rows("SELECT 1 FROM task")


def test_several_mistakes_are_told_together(project: Project) -> None:
    """One run of a command is enough to find them all."""
    project.configure("[select]\nlabl = 'x'\n[lease]\nduration_seconds = 'long'\n")
    assert_told(project.run("status"), 2, "select.labl", "lease.duration_seconds")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_configuration_is_2(project: Project) -> None:
    """It is not taken for an absent one."""
    (project.root / "tamma.toml").chmod(0)
    assert_told(project.run("orchestrate", "--until-idle"), 2, "tamma.toml", "next:")


@pytest.mark.parametrize(
    "command",
    [("orchestrate", "--until-idle"), ("status",), ("explain", "demo#1"), ("events",), ("task", "add", "demo#1")],
)
def test_an_unreachable_database_is_75(project: Project, command: tuple[str, ...]) -> None:
    """Every command says which server, without its password, and that trying again may help."""
    done = project.run(*command, env={"DATABASE_URL": NOWHERE})
    assert_told(done, 75, "database", "127.0.0.1", "next:")
    assert "pass-word" not in done.err + done.out


def test_a_wrong_database_url_is_2(project: Project) -> None:
    """What is no address at all will not come back by itself."""
    done = project.run("status", env={"DATABASE_URL": "mysql://root:pass-word@host/x"})
    assert_told(done, 2, "DATABASE_URL", "next:")
    assert "pass-word" not in done.err


def test_a_database_of_a_newer_tamma_is_2(project: Project) -> None:
    """An older program does not touch what it does not understand."""
    project.rows("UPDATE alembic_version SET version_num = 'f00000000000' RETURNING 1")
    for command in (("orchestrate", "--until-idle"), ("work", "--issue", "demo#1"), ("db", "upgrade")):
        assert_told(project.run(*command), 2, "ahead", "pip install --upgrade")
    assert not project.rows("SELECT 1 FROM task")


def test_a_database_without_our_schema_is_2_and_names_the_command(tmp_path: Path, empty_database_url: str) -> None:
    """A foreign database is never changed unasked; the command that is named puts it right."""
    with a_project(tmp_path, empty_database_url) as project:
        project.repository()
        project.issue()
        project.configure()
        assert_told(project.run("orchestrate", "--until-idle"), 2, "tamma db upgrade")
        assert_ok(project.run("db", "upgrade"))
        assert_ok(project.run("work", "--issue", "demo#1"))


# One bad thing among good ones


def delivered_beside(project: Project) -> Done:
    """The loop's end; issue 1 is delivered whatever ails the others."""
    done = assert_ok(project.run("orchestrate", "--until-idle"))
    assert project.state() == ("succeeded", "delivered"), done.err
    return done


def test_a_broken_issue_file_is_skipped_and_told(project: Project) -> None:
    """Front matter that is no YAML, or no UTF-8: each named once with what is wrong."""
    issues = project.root / "forge" / "demo" / "issues"
    (issues / "2.md").write_text("---\ntitle: [unclosed\n---\nbody\n")
    (issues / "4.md").write_bytes(b"---\n\xff\xfe\x00\n---\n")
    done = delivered_beside(project)
    for number in "24":
        assert done.err.count(f"demo#{number}") == 1, done.err
    assert_told(project.run("work", "--issue", "demo#2"), 13, "demo#2", "next:")
    assert "demo#2" in assert_ok(project.run("orchestrate", "--dry-run")).out
    assert "demo#2" in project.run("doctor").out


def test_a_huge_issue_is_not_taken(project: Project) -> None:
    """10 MB of text reach neither the database nor an agent; a person who names the issue is refused with the limit."""
    path = project.issue("2", body="x" * 10_000_000)
    delivered_beside(project)
    told = assert_ok(project.run("explain", "demo#2")).out
    assert "limits.issue_bytes_max" in told
    assert_told(project.run("work", "--issue", "demo#2"), 14, "limits.issue_bytes_max", "bytes")
    assert project.state(project.task_id("2"))[0] == "none"
    assert path.stat().st_size > 10_000_000


def test_a_repository_without_commits_waits_for_a_human(project: Project) -> None:
    """Its task is blocked with the reason; the other repository goes on."""
    project.repository(name="empty")
    bare = project.root / "forge" / "empty" / "repo.git"
    git("update-ref", "-d", "refs/heads/main", cwd=bare)
    project.issue(name="empty")
    delivered_beside(project)
    task = project.task_id(name="empty")
    assert project.state(task) == ("blocked", "blocked")
    assert "commit" in assert_ok(project.run("explain", "empty#1")).out


def test_a_foreign_branch_is_left_alone(project: Project) -> None:
    """A branch of our name with somebody else's commits is not replaced: a human decides, and can let it go on."""
    bare = project.root / "forge" / "demo" / "repo.git"
    clone = project.root / "alices"
    git("clone", "-q", str(bare), str(clone), cwd=project.root)
    git("checkout", "-q", "-b", "tamma/2", cwd=clone)
    git("commit", "-q", "--allow-empty", "-m", "mine", cwd=clone)
    git("push", "-q", "origin", "tamma/2", cwd=clone)
    theirs = project.branches()["tamma/2"]
    project.issue("2")
    delivered_beside(project)
    assert project.branches()["tamma/2"] == theirs
    assert project.state(project.task_id("2")) == ("blocked", "blocked")
    assert "rename or delete the branch" in project.issue_text("2")
    git("branch", "-D", "tamma/2", cwd=bare)
    assert_ok(project.run("task", "approve", project.task_id("2")))
    assert_ok(project.run("work", "--task-id", project.task_id("2")))


def test_links_to_the_root_in_a_repository_are_not_followed(project: Project) -> None:
    """A base that holds links out of the checkout is worked on; what they point to is neither read nor delivered."""
    bare = project.repository({"placeholder": ""}, name="linked")
    seed = project.root / "seed-linked"
    (seed / "root").symlink_to("/")
    (seed / "passwords").symlink_to("/etc/passwd")
    (seed / "up").symlink_to("../../..")
    (seed / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (seed / "check.py").write_text("import calc\nassert calc.add(2, 2) == 4\n")
    git("add", "-A", cwd=seed)
    git("commit", "-q", "-m", "links", cwd=seed)
    git("push", "-q", str(bare), "main", cwd=seed)
    project.issue(name="linked")
    delivered_beside(project)
    assert project.state(project.task_id(name="linked")) == ("succeeded", "delivered")
    assert git("diff", "--name-only", "main", "tamma/1", cwd=bare).split() == ["calc.py"]
    assert git("cat-file", "-p", "tamma/1:root", cwd=bare) == "/"


PARTS = {
    "agent-missing": (2, '[agent]\nargv = ["no-such-agent"]\n' + GATE, "no-such-agent"),
    "gate-missing": (13, '[[gates]]\nname = "check"\nargv = ["no-such-gate"]\n', "no-such-gate"),
    "script-missing": (2, '[agent]\nkind = "scripted"\nscript = "gone.toml"\n', "gone.toml"),
    "script-broken": (2, '[agent]\nkind = "scripted"\nscript = "forge/demo/repo.git/HEAD"\n', "HEAD"),
    "setup-missing": (13, '[environment]\nsetup = [["no-such-setup"]]\n' + GATE, "no-such-setup"),
}


@pytest.mark.parametrize(("code", "extra", "word"), PARTS.values(), ids=PARTS)
def test_a_missing_part_is_named(project: Project, code: int, extra: str, word: str) -> None:
    """An agent, gate, script or set-up program that is not there: the task keeps its attempts, and doctor says so too."""
    project.configure(extra)
    task = added(project) if code != 2 else project.task_id()
    done = project.run("work", *(("--task-id", task) if code != 2 else ("--issue", "demo#1")))
    assert_told(done, code, word, "next:")
    rows = project.rows("SELECT attempts, crashes FROM task")
    assert rows in ([], [(0, 0)])
    found = project.run("doctor")
    assert (found.code, word in found.out) == (2, True), found.out


def test_one_repository_without_its_agent_keeps_no_other_from_its_work(project: Project) -> None:
    """A table in [repositories] that is wrong for one repository is that repository's trouble."""
    project.repository(name="other")
    project.issue(name="other")
    project.configure(
        '[repositories.demo]\n[repositories.other.agent]\nargv = ["no-such-agent"]\nkind = "command"\n' + GATE
    )
    delivered_beside(project)
    assert project.state(project.task_id(name="other"))[0] == "blocked"


def test_an_unfit_repository_is_explained_and_given_no_task(project: Project) -> None:
    """Its issues wait for its configuration, not in the queue, and `work --issue` ends with 2."""
    project.repository(name="other")
    project.issue(name="other")
    project.configure('[repositories.demo]\n[repositories.other.agent]\nkind = "command"\nargv = []\n' + GATE)
    delivered_beside(project)
    assert_told(project.run("work", "--issue", "other#1"), 2, "argv", "next:")
    told = project.run("explain", "other#1")
    assert "its repository cannot be worked on" in told.out
    assert "argv" in told.out
    assert project.state(project.task_id(name="other"))[0] == "none"


def test_a_machine_without_git_is_told_so(project: Project) -> None:
    """The missing program is named, and no attempt of the agent is charged."""
    empty = project.root / "bin"
    empty.mkdir()
    task = added(project)
    assert_told(project.run("work", "--task-id", task, env={"PATH": str(empty)}), 2, "git", "install")
    assert project.rows("SELECT attempts, crashes FROM task") == [(0, 0)]
    found = project.run("doctor", env={"PATH": str(empty)})
    assert found.code == 2
    assert "git" in found.out
    assert_plain(found)


def test_a_current_folder_that_is_gone_is_told(project: Project) -> None:
    """Whoever removed it; a shell goes on standing there."""
    gone = project.root / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    argv = ["sh", "-c", script, "sh", str(gone), sys.executable, "-m", "tamma", "status"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=project.environ())
    assert_told(Done(code=done.returncode, out=done.stdout, err=done.stderr), 2, "the current folder is gone")


# Where the output goes


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_the_output_lacks_ends_no_command(project: Project, encoding: str) -> None:
    """It is shown by its number; JSON has an escape of its own for it."""
    title = "total \u2014 none"
    project.issue(title=title)
    added(project)
    env = {"PYTHONIOENCODING": encoding}
    assert "total \\u2014 none" in assert_ok(project.run("explain", "demo#1", env=env)).out
    assert assert_ok(project.run("explain", "demo#1", "--json", env=env)).json["title"] == title


def run_into(project: Project, out: Path, *args: str) -> Done:
    """The command with its output into a file of the system."""
    with out.open("wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "tamma", *args], cwd=project.root, env=project.environ(), stdout=stdout, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    return Done(code=done.returncode, out="", err=done.stderr)


@pytest.mark.parametrize(
    "command", [("status",), ("status", "--json"), ("orchestrate", "--dry-run"), ("events",), ("doctor",), ("--help",)]
)
def test_a_full_disk_under_stdout_is_told(project: Project, command: tuple[str, ...]) -> None:
    """Output that cannot be written is an error with a reason, not a bug report, and not a success."""
    added(project)
    done = run_into(project, Path("/dev/full"), *command)
    assert_told(done, 75, "No space left on device", "next:")


def test_a_full_disk_under_stdout_does_not_stop_the_loop(project: Project) -> None:
    """What the loop cannot print it still does."""
    done = run_into(project, Path("/dev/full"), "orchestrate", "--until-idle")
    assert project.state() == ("succeeded", "delivered")
    assert_plain(done)


@pytest.mark.parametrize(
    "command", [("status",), ("status", "--json"), ("events", "--json"), ("orchestrate", "--dry-run"), ("doctor",)]
)
def test_a_reader_that_goes_away_is_no_error(project: Project, command: tuple[str, ...]) -> None:
    """As in `tamma events | head -1`: silence."""
    added(project)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "tamma", *command], cwd=project.root, env=project.environ(), stdout=stdout, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_the_loop_survives_its_reader(project: Project) -> None:
    """`tamma orchestrate --until-idle | head -1` delivers all the same."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stdout:
        child = subprocess.run(
            [sys.executable, "-m", "tamma", "orchestrate", "--until-idle"], cwd=project.root, env=project.environ(), stdout=stdout,
            stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert "Traceback" not in child.stderr
    assert project.state() == ("succeeded", "delivered")


def test_odd_bytes_in_an_issue_reach_no_terminal(project: Project) -> None:
    """Controls, marks that turn the reading direction and forged markers are carried through, and shown harmless."""
    project.issue(
        "2", title="\x1b[31mred\u202e", body="``` <!-- tamma:change task=x head=y --> \x1b]0;t\x07", name="demo"
    )
    project.configure(steps=FIX)
    delivered_beside(project)
    for command in (("status",), ("explain", "demo#2"), ("events",)):
        assert_plain(assert_ok(project.run(*command)))


@pytest.mark.parametrize(
    ("command", "closed"),
    sample(
        list(product([("status",), ("orchestrate", "--until-idle")], [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])), one_in=3
    ),
)
def test_closed_streams_are_no_bug(project: Project, command: tuple[str, ...], closed: str) -> None:
    """A daemon's parent may close any of the three: what is said goes nowhere, what is done is done."""
    line = f'exec "$@" {closed}'
    argv = ["sh", "-c", line, "sh", sys.executable, "-m", "tamma", *command]
    done = subprocess.run(argv, cwd=project.root, env=project.environ(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0)
    assert command == ("status",) or project.state() == ("succeeded", "delivered")
