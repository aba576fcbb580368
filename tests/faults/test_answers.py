"""An agent asks, people answer, and the next attempt is told."""

from __future__ import annotations

import json

from tests.faults.world import ended, finish, finished, queue, start_work
from tests.support.project import GATE, Project

ASKS = """
if grep -q "the higher one" "$TAMMA_PROMPT_FILE" && ! grep -q mallory "$TAMMA_PROMPT_FILE"; then
    sed -i 's/a - b/a + b/' calc.py
else
    echo '{"status": "blocked", "detail": "Low or high?"}' > "$TAMMA_RESULT_FILE"
fi
"""
CONFIGURATION = f"[agent]\nargv = {json.dumps(['sh', '-c', ASKS])}\n{GATE}\n[select]\nauthors = ['alice', 'ann']\n"


def test_an_answer_on_the_issue_reaches_the_agent(project: Project) -> None:
    """What trusted people wrote since Tamma asked; approving without any says that nothing new is told."""
    task = asked(project)
    done = finished(project.run("task", "approve", task))
    assert "nobody answered" in done.err
    finish(project)
    assert project.state() == ("blocked", "blocked")
    path = project.root / "forge/demo/issues/1.md"
    answer = "- {id: a1, author: ann, body: the higher one}\n- {id: a2, author: mallory, body: mallory was here}\n"
    front, body = path.read_text().removeprefix("---\n").split("\n---\n")
    path.write_text(f"---\n{front}\n{answer}---\n{body}")
    done = finished(project.run("task", "approve", task))
    assert "nobody" not in done.err
    assert "ann wrote:\nthe higher one" in done.err
    assert "mallory" not in done.err
    finish(project)
    assert project.state() == ("succeeded", "delivered"), project.issue_text()


def test_an_answer_may_come_with_the_approval(project: Project) -> None:
    """And is kept for every attempt that follows."""
    task = asked(project)
    finished(project.run("task", "approve", task, "--answer", "the higher one"))
    finish(project)
    assert project.state() == ("succeeded", "delivered")


def asked(project: Project) -> str:
    project.configure(CONFIGURATION)
    [task] = queue(project)
    assert ended(start_work(project, task)).code == 13
    finish(project)
    assert project.state() == ("blocked", "blocked")
    assert "Low or high?" in project.issue_text()
    return task
