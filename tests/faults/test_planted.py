"""What an agent without a sandbox plants beside its workspace for the next turn neither holds Tamma nor looks like its bug."""

from __future__ import annotations

import sys

import pytest

from tests.faults.world import ended, queue, start_work
from tests.support.project import Project

# Passes on the base, so that the agent's first turn breaks it and a second one follows.
GATE = f"""
[[gates]]
name = "check"
argv = ["{sys.executable}", "-c", "import calc"]

[change]
repairs_max = 1
"""
BREAK = "echo broken >> calc.py;"
FIFOS = "for n in 1 2; do mkdir ../scratch/turn-$n && mkfifo ../scratch/turn-$n/prompt.md ../scratch/turn-$n/steps.json; done; true"


@pytest.mark.parametrize(
    ("planted", "code", "said"),
    [
        (FIFOS, 10, "these gates still fail"),
        ("rm -rf ../scratch; echo > ../scratch", 11, "its scratch folder cannot be used"),
    ],
)
def test_what_is_planted_for_the_next_turn_holds_nobody(project: Project, planted: str, code: int, said: str) -> None:
    """The next turn begins in a folder whose name could not be known; where none can be made, the agent is to blame."""
    shell = BREAK + planted
    project.configure(GATE)
    project.script(
        '[[play]]\nissue = "*"\nturn = 0\nsteps = [{ run = ["sh", "-c", "' + shell + '"], may_fail = true }]\n',
        '[[play]]\nissue = "*"\nsteps = [{ say = "hm" }]\n',
    )
    [task] = queue(project)
    done = ended(start_work(project, task, TAMMA_LEASE__DURATION_SECONDS="60"))
    assert done.code == code, (done.err, done.out)
    assert said in done.err
