"""Claims about how `tamma work` ends: each code by a real process from a real cause, with its row, event and message."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tamma.core.errors import ExitCode
from tests.cli.ends import added, assert_ok, assert_plain, assert_told, ended, last_settled
from tests.support.project import FIX, GATE, Project, wait_until

# Passes on the base, so that breaking it is the change's own doing.
GOOD_GATE = f'''
[[gates]]
name = "check"
argv = ["{sys.executable}", "-c", "import calc"]
'''
JUNIT = """
from pathlib import Path
cases = [f'<testcase classname="{p.stem}" name="test_sub"/>' for p in Path().glob("tests/*.py")]
Path("r.xml").write_text("<testsuite>" + "".join(cases) + "</testsuite>")
"""
SHORT_LEASE = "[lease]\nduration_seconds = 1.5\nbeat_seconds = 0.3\n"
NOWHERE = "postgresql://tamma@127.0.0.1:1/tamma"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One cause, and what must come of it."""

    code: int
    state: str
    outcome: str
    says: tuple[str, ...]
    steps: str = FIX
    extra: str = GATE
    fail_points: str = ""


ENDS = {
    "bug": End(code=1, state="retryable", outcome="crashed", says=("a bug in Tamma", "tamma-bug-"), fail_points="gates.after_enter=raise"),
    "gates": End(
        code=10, state="failed", outcome="gates failed", says=("check", "next:"), extra=GOOD_GATE,
        steps='{ append = "calc.py", text = "broken(" }',
    ),
    "agent-failed": End(code=11, state="retryable", outcome="agent failed", says=("no idea", "0 files", "next:"), steps='{ fail = "no idea" }'),
    "agent-did-nothing": End(code=11, state="retryable", outcome="agent failed", says=("changed nothing",), steps='{ say = "hm" }'),
    "agent-removed-workspace": End(
        code=11, state="retryable", outcome="agent failed", says=("the agent removed its workspace", "next:"),
        steps='{ run = ["sh", "-c", "rm -rf \\"$(dirname \\"$PWD\\")\\""], may_fail = true }',
    ),
    "no-change-unproven": End(
        code=11, state="retryable", outcome="agent failed", says=("added no test that passes",), steps='{ no_change_needed = "looks fine" }'
    ),
    "exhausted": End(code=12, state="failed", outcome="budget spent", says=("too dear", "next:"), steps='{ exhaust = "too dear" }'),
    "over-time": End(
        code=12, state="failed", outcome="budget spent", says=("wall", "next:"), steps='{ hang = "stubborn" }',
        extra='[agent]\nkind = "scripted"\nscript = "agent.toml"\nwall_clock_seconds = 0.5\n' + GATE,
    ),
    "asks": End(code=13, state="blocked", outcome="blocked", says=("Which one?", "tamma task approve"), steps='{ block = "Which one?" }'),
    "no-agent": End(
        code=2, state="blocked", outcome="blocked", says=("./agent.sh cannot be started", "[agent] argv"), steps="",
        extra='[agent]\nargv = ["./agent.sh"]\n' + GATE,
    ),
    "set-up-failed": End(
        code=13, state="blocked", outcome="blocked", says=("building the environment: sh -c", "ended with 3: no such package\n  next: fix the [environment]"),
        extra="[environment]\nsetup = [['sh', '-c', 'echo; echo no such package; echo; exit 3']]\n" + GATE,
    ),
    "set-up-away": End(
        code=75, state="retryable", outcome="unavailable", says=("building the environment: sh -c", "try again later", "next:"),
        extra="[environment]\nsetup = [['sh', '-c', 'exit 75']]\n" + GATE,
    ),
    "protected": End(
        code=14, state="failed", outcome="refused", says=(".github/workflows/ci.yml", "next:"),
        steps='{ write = ".github/workflows/ci.yml", text = "on: push" }',
    ),
    "link-out": End(
        code=14, state="failed", outcome="refused", says=("root", "link"), steps='{ symlink = "root", target = "/" }, ' + FIX
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_each_end_has_its_code(project: Project, end: End) -> None:
    """Exit code, task row, event and message agree on how the attempt ended."""
    project.configure(end.extra + "\n[change]\nrepairs_max = 0\n", steps=end.steps)
    task = added(project)
    done = project.run(
        "work", "--task-id", task, env={"TAMMA_FAILPOINTS": end.fail_points, "TMPDIR": str(project.root)}
    )
    assert_told(done, end.code, *end.says)
    assert project.state() == (end.state, end.outcome)
    fact = last_settled(project)
    assert (fact.exit_code, fact.state, fact.outcome) == (end.code, end.state, end.outcome)
    assert not project.branches()
    assert not project.changes()


def test_a_bug_leaves_its_traceback_in_a_file(project: Project) -> None:
    """The terminal gets one sentence and the name of the file that holds the rest."""
    task = added(project)
    done = project.run(
        "work", "--task-id", task, env={"TAMMA_FAILPOINTS": "audit.after_enter=raise", "TMPDIR": str(project.root)}
    )
    assert_told(done, 1)
    (log,) = project.root.glob("tamma-bug-*.log")
    assert "Traceback" in log.read_text()
    assert str(log) in done.err


def test_a_bug_after_the_attempt_is_settled_changes_nothing_of_it(project: Project) -> None:
    """Delivered is delivered; the bug is reported, and the next tick tells the issue."""
    task = added(project)
    env = {"TAMMA_FAILPOINTS": "comment.before_intent=raise", "TMPDIR": str(project.root)}
    done = project.run("work", "--task-id", task, env=env)
    assert done.code == 0
    assert "change" in done.out
    (log,) = project.root.glob("tamma-bug-*.log")
    assert str(log) in done.err
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert not project.rows("SELECT 1 FROM task WHERE notice IS NOT NULL")


def test_0_delivers(project: Project) -> None:
    """Delivered: the change's address on stdout, the branch and the change on the forge."""
    done = assert_ok(project.run("work", "--task-id", added(project)))
    assert "change" in done.out
    assert project.state() == ("succeeded", "delivered")
    assert last_settled(project).exit_code == 0
    assert project.show("calc.py") == "def add(a, b):\n    return a + b\n"


def test_a_change_of_one_line_is_told_as_one(project: Project) -> None:
    """In its description, as everywhere else."""
    project.configure(GOOD_GATE, steps='{ append = "README.md", text = "more\\n" }')
    assert_ok(project.run("work", "--issue", "demo#1"))
    assert "1 file, 1 line, after 0 repairs; agent" in project.changes()[0]


@pytest.mark.parametrize("code", [0, 3])
def test_a_change_tells_aloud_that_its_agent_failed(project: Project, code: int) -> None:
    """Its gates decide; that its run ended badly is for the reviewer to know."""
    project.configure(f'[agent]\nargv = ["sh", "-c", "echo more >> README.md; exit {code}"]\n{GOOD_GATE}', steps=None)
    assert_ok(project.run("work", "--issue", "demo#1"))
    assert ("**The agent's own run failed**" in project.changes()[0]) is bool(code)


def test_0_when_nothing_needed_changing_and_tests_prove_it(project: Project) -> None:
    """The agent's word alone is 11; with new tests that pass on the code as it is, it is 0."""
    project.configure(
        f'[[gates]]\nname = "tests"\nargv = ["{sys.executable}", "-c", {json.dumps(JUNIT)}]\nreport = "r.xml"\n',
        steps='{ write = "tests/test_calc.py", text = "def test_sub(): pass\\n" }, { no_change_needed = "it subtracts as asked" }',
    )
    done = assert_ok(project.run("work", "--task-id", added(project)))
    assert "it subtracts as asked" in done.out
    assert project.state() == ("succeeded", "no change needed")
    assert not project.branches()


def test_2_for_an_id_that_cannot_be_one(project: Project) -> None:
    """Malformed is usage."""
    assert_told(project.run("work", "--task-id", "seven"), 2, "seven", "next:")
    assert_told(project.run("work", "--task-id", "seven", env={"DATABASE_URL": NOWHERE}), 2, "seven", "next:")


def test_3_for_an_id_that_no_task_has(project: Project) -> None:
    """Well-formed but unknown."""
    assert_told(project.run("work", "--task-id", project.task_id("99")), 3, project.task_id("99"), "tamma status")
    assert_told(project.run("work", "--issue", "demo#99"), 3, "demo#99", "next:")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--task-id", "x", "--issue", "demo#1"),
        ("--issue", "nowhere#1"),
        ("--issue", "demo#1", "--ok-codes", "5"),
        ("--issue", "demo#"),
    ],
)
def test_2_for_options_that_make_no_sense(project: Project, options: tuple[str, ...]) -> None:
    """What cannot be meant is refused before anything is done."""
    assert_told(project.run("work", *options), 2, "next:")
    assert not project.rows("SELECT 1 FROM task")


def test_2_for_an_option_that_does_not_exist(project: Project) -> None:
    """The parser's own complaint, plain."""
    done = project.run("work", "--isue", "demo#1")
    assert done.code == 2
    assert "--isue" in done.err
    assert_plain(done)


def test_4_for_a_task_that_has_ended(project: Project) -> None:
    """A finished task is not run again, and the message says what it is."""
    task = added(project)
    assert_ok(project.run("work", "--task-id", task))
    before = project.types()
    assert_told(project.run("work", "--task-id", task), 4, "succeeded", "tamma explain")
    assert project.types() == before


def test_4_for_a_task_that_runs_elsewhere_or_is_cancelled_there(project: Project) -> None:
    """One worker has it: a second is refused; when a human cancels it, the first stops and exits 4."""
    project.configure(SHORT_LEASE, steps='{ hang = "quiet" }')
    task = added(project)
    first = project.start("work", "--task-id", task)
    wait_until(lambda: "AGENT.RUN.STARTED" in project.types())
    assert_told(project.run("work", "--task-id", task), 4, "is running", "next:")
    assert_ok(project.run("task", "cancel", task))
    assert_told(ended(first), 4, "was cancelled")
    assert project.state()[0] == "cancelled"


def test_13_when_the_forge_is_not_there_at_all(project: Project) -> None:
    """A repository that is gone from its place does not come back by itself: a human is asked, with what to check."""
    task = added(project)
    project.configure('[repositories.demo]\ngit = "forge/gone.git"\n' + GATE)
    assert_told(project.run("work", "--task-id", task), 13, "demo", "gone.git", "next: check")
    assert project.state() == ("blocked", "blocked")


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM")])
def test_130_and_143_for_signals(project: Project, number: signal.Signals, code: int, name: str) -> None:
    """A signal releases the lease and charges no attempt; what the agent did is kept as a patch."""
    project.configure(steps=FIX + ', { say = "now" }, { hang = "stubborn" }')
    task = added(project)
    child = project.start("work", "--task-id", task)
    wait_until(lambda: "AGENT.OUTPUT.RECEIVED" in project.types())
    child.send_signal(number)
    assert_told(ended(child), code, name)
    assert project.state() == ("queued", "interrupted")
    fact = last_settled(project)
    assert (fact.exit_code, fact.attempts, fact.interruptions) == (code, 0, 1)
    assert "a + b" in assert_ok(project.run("task", "patch", task)).out


def test_20_when_another_attempt_took_over(project: Project) -> None:
    """A worker that was stopped past its lease wakes to find its task done: it exits 20, having written nothing more. Whether its
    own clock tells it first, or the database, is chance."""
    project.configure(SHORT_LEASE + GATE)
    task = added(project)
    zombie = project.start("work", "--task-id", task, env={"TAMMA_FAILPOINTS": "publish.after_enter=stop"})
    wait_until(lambda: is_stopped(zombie.pid))
    idle = assert_ok(project.run("orchestrate", "--until-idle"))
    assert idle.out.splitlines()[-1] == "idle: 1 delivered; `tamma status` shows each"
    assert project.state() == ("succeeded", "delivered")
    refs, told = project.refs(), len(project.events())
    zombie.send_signal(signal.SIGCONT)
    done = ended(zombie)
    assert_told(done, 20, "lease", "next:")
    assert "epoch 2 has begun" in done.err or "could not be renewed in time" in done.err, done.err
    assert project.refs() == refs
    assert len(project.events()) == told


def test_75_when_the_database_is_away_at_the_start(project: Project) -> None:
    """Nothing could be asked, so nothing was done; trying again may help."""
    done = project.run("work", "--task-id", project.task_id(), env={"DATABASE_URL": NOWHERE})
    assert_told(done, 75, "database", "next:")
    assert_told(project.run("work", "--issue", "demo#1", env={"DATABASE_URL": NOWHERE}), 75, "database")


def test_75_when_the_forge_goes_away(project: Project) -> None:
    """A repository that cannot be reached defers the task and charges no attempt of the agent."""
    task = added(project)
    project.configure('[repositories.demo]\ngit = "https://127.0.0.1:1/demo.git"\n' + GATE)
    done = project.run("work", "--task-id", task)
    assert_told(done, 75, "demo", "next:")
    assert project.state() == ("retryable", "unavailable")
    fact = last_settled(project)
    assert (fact.exit_code, fact.attempts, fact.infra) == (75, 0, 1)


def test_ok_codes_turn_what_ci_cannot_read_into_0(project: Project) -> None:
    """Only the chosen codes; the message stays."""
    project.configure(steps='{ block = "Which one?" }')
    done = project.run("work", "--task-id", added(project), "--ok-codes", "4, 13,20")
    assert_told(done, 0, "Which one?")
    assert_told(project.run("work", "--task-id", project.task_id(), "--ok-codes", "4"), 13, "Which one?")


WAITS = {
    "question": ("", '{ block = "Which one?" }', 13, ("Which one?", "answer by a comment")),
    "approval": ("[change]\napprove_before_publish = true\n", FIX, 13, ("waits for approval", "look at it with `tamma task patch")),
    "set-up": ("[environment]\nsetup = [['sh', '-c', 'exit 3']]\n", FIX, 13, ("ended with 3", "fix the [environment] section")),
    "no-agent": ('[agent]\nargv = ["no-such-agent"]\n', FIX, 2, ("no-such-agent", "[agent] argv")),
}  # fmt: skip


@pytest.mark.parametrize(("extra", "steps", "code", "says"), WAITS.values(), ids=WAITS)
def test_a_task_that_waits_for_a_human_says_so_again(
    project: Project, extra: str, steps: str, code: int, says: tuple[str, ...]
) -> None:
    """With 13 however often it is asked for, by issue and by id, and nothing happens; `work`, `explain` and the issue name the
    same way on, one for each kind of wait."""
    project.configure(extra + GATE, steps=steps)
    first = project.run("work", "--issue", "demo#1")
    assert_told(first, code, *says, "tamma task approve")
    before, task = project.types(), project.task_id()
    for which in (("--issue", "demo#1"), ("--task-id", task)):
        assert_told(project.run("work", *which), 13, *says, "tamma task approve")
    assert project.run("work", "--issue", "demo#1", "--ok-codes", "13").code == 0
    assert project.types() == before
    step = first.err.split("  next: ")[1].strip()
    assert step.count("`tamma task approve") == 1
    assert "`tamma task retry" not in step
    assert f"What next: {step}" in project.issue_text()
    assert assert_ok(project.run("explain", "demo#1", "--json")).json["next"] == step.replace(task, "demo#1")
    assert "Next: " not in assert_ok(project.run("explain", "demo#1")).out


def test_without_a_database_a_task_id_is_usage_and_an_issue_is_enough(bare_project: Project) -> None:
    """`--task-id` says to use `--issue`; that makes an embedded database, delivers, and a second run finds the change; once
    a human closed it, the answer is 4."""
    project = bare_project
    assert_told(project.run("work", "--task-id", project.task_id()), 2, "use --issue", "no database")
    assert not (project.root / ".tamma" / "postgres").exists()
    first = assert_ok(project.run("work", "--issue", "demo#1"))
    second = assert_ok(project.run("work", "--issue", "demo#1"))
    (change,) = (project.root / "forge" / "demo" / "changes").glob("*.md")
    for done in (first, second):
        assert str(change) in done.out, done.out
    refs = project.refs()
    closed = change.read_text().replace("state: open", "state: closed", 1)
    assert closed != change.read_text()
    change.write_text(closed)
    assert_told(project.run("work", "--issue", "demo#1"), 4, "closed unmerged", "tamma task retry")
    assert project.refs() == refs


def test_every_code_is_told_by_help(project: Project) -> None:
    """`tamma work --help` lists the codes, so that CI authors need no other page."""
    told = assert_ok(project.run("work", "--help")).out
    assert all(f"{int(code)}  " in told for code in ExitCode), told


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP reached it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")
