"""Claims about what gates printed: who gets an issue back sees why its change was stopped."""

from __future__ import annotations

import json
import sys

import pytest

from tamma.engine import failures
from tests.cli.ends import assert_ok, assert_told
from tests.support.project import FILES, Project

BROKEN = '{ say = "I break it" }, { append = "calc.py", text = "broken(" }'
CHECK = """
import sys
try:
    import calc
    body = ""
except Exception:
    body = "<failure/>"
with open(sys.argv[1], "w") as report:
    report.write(f'<testsuite><testcase classname="test_calc" name="test_add">{body}</testcase></testsuite>')
print("E  @ann: the sum is wrong")
sys.exit(bool(body))
"""
GATES = (
    "[[gates]]\nname = 'unit tests'\n"
    f"argv = {json.dumps([sys.executable, 'junit.py', '{report}'])}\n"
    "[[gates]]\nname = 'quiet'\nargv = ['true']\n[change]\nrepairs_max = 0\n"
)


@pytest.fixture
def stopped(project: Project) -> Project:
    """A project whose issue came back, since a test fails."""
    project.repository(FILES | {"junit.py": CHECK}, name="other")
    project.issue(name="other")
    project.configure(GATES, steps=BROKEN)
    assert project.run("work", "--issue", "other#1").code == 10
    return project


def test_who_gets_an_issue_back_sees_which_tests_fail_and_what_they_printed(stopped: Project) -> None:
    """In the answer of `explain`, and on the issue, where it is inert; both name the command that prints the rest."""
    told = assert_ok(stopped.run("explain", "other#1")).out
    assert "    failing in unit tests:\n      test_calc::test_add\n" in told, told
    assert "      | E  @ann: the sum is wrong\n" in told
    assert f"tamma task output {stopped.task_id(name='other')} 'unit tests'" in told
    (story,) = assert_ok(stopped.run("explain", "other#1", "--json")).json["attempts"]
    (failure,) = story["failures"]
    assert (failure["gate"], len(failure["tests"]), failure["tail"]) == ("unit tests", 1, "E  @ann: the sum is wrong")
    assert_ok(stopped.run("orchestrate", "--once", env={"TAMMA_SELECT__LABELS_ALL": '["nobody"]'}))
    (comment,) = stopped.comments(name="other")
    text = (stopped.root / "forge" / "other" / "issues" / "1.md").read_text()
    assert comment
    assert "test_add" in text
    assert "the sum is wrong" in text
    assert "@ann" not in text.replace("@\u200bann", "")


def test_the_output_of_gates_is_printed_on_request(stopped: Project) -> None:
    """Of all of them, headed, or of one as it is; one that printed nothing says so beside the output."""
    task = "other#1"
    done = assert_ok(stopped.run("task", "output", task))
    assert "== unit tests: fail — " in done.out
    assert "== quiet: pass — " in done.out
    assert assert_ok(stopped.run("task", "output", "other#1", "unit tests")).out == "E  @ann: the sum is wrong\n"
    quiet = assert_ok(stopped.run("task", "output", task, "quiet"))
    assert quiet.out == ""
    assert "gate quiet printed nothing: pass" in quiet.err
    assert assert_ok(stopped.run("task", "output", task, "agent")).out == "I break it\n"


def test_the_output_of_gates_that_were_not_asked_is_3(stopped: Project) -> None:
    """The gates that were are named."""
    assert_told(stopped.run("task", "output", "other#1", "lint"), 3, "no gate 'lint'", "unit tests")
    task = assert_ok(stopped.run("task", "add", "demo#1")).out.strip()
    assert_told(stopped.run("task", "output", task), 3, "no gate was asked", "explain")


def test_only_the_end_of_a_long_output_is_told() -> None:
    """The last lines that say something; of a single endless one its end."""
    lines = failures.tail("\n\n".join(f"line {n}" for n in range(100)) + "\n\n").splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("line 80", "line 99", 20)
    assert failures.tail("wide " * 100 + "\n" + "é" * 900).startswith("é")
    assert len(failures.tail("é" * 5_000).encode()) <= failures.TAIL_BYTES_MAX
    assert failures.tail("") == ""
