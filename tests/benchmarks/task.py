"""What Tamma adds to a task whose agent and gate take next to no time, against a shell script that does the same by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.measure import Benchmark, Figure, in_turn, seconds_of
from tests.benchmarks.place import Place, run

_FILES: Final = 200
_ISSUES: Final = 4
_PEER: Final = "shell script: clone, apply, test, commit, push"
_SCRIPT: Final = """set -e
rm -rf clone
git clone -q "$REMOTE" clone
cd clone
git checkout -q -b "$BRANCH"
git apply "$PATCH"
sh check.sh
git add -A
git commit -q -m "Resolve the issue"
git push -q origin "$BRANCH"
"""
_CONFIG: Final = """[forge]
kind = "local"
root = "forge"

[agent]
kind = "command"
argv = ["git", "apply", "{patch}"]

[[gates]]
name = "check"
argv = ["sh", "check.sh"]

[limits]
workers = 1
open_changes_per_repository_max = 1000
"""
_ISSUE: Final = (
    "---\ntitle: The answer is wrong\nlabels: [tamma]\nauthor: reporter\nstate: open\n---\nIt should be 42.\n"
)
_AUTHOR: Final = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A"), ("EMAIL", "a@example.invalid"))
}


@dataclass(frozen=True, slots=True)
class Project:
    """A repository on a local forge, a configuration, and a patch that resolves every issue."""

    folder: Path
    numbers: Iterator[int]

    @property
    def bare(self) -> Path:
        """The remote."""
        return self.folder / "forge" / "demo" / "repo.git"

    @property
    def patch(self) -> Path:
        """What the agent and the script apply."""
        return self.folder / "change.patch"

    def tamma(self, *argv: str) -> str:
        """What a command printed."""
        return run([sys.executable, "-m", "tamma", *argv], at=self.folder)

    def issue(self) -> str:
        """A new labelled issue."""
        number = next(self.numbers)
        (self.folder / "forge" / "demo" / "issues" / f"{number}.md").write_text(_ISSUE)
        return f"demo#{number}"

    def one_task(self) -> float:
        """``tamma work`` as a CI step runs it, from the process's start to its exit."""
        task = self.tamma("task", "add", self.issue()).split()[-1]
        return seconds_of(lambda: self.tamma("work", "--task-id", task))

    def in_the_loop(self) -> float:
        """From one settled task to the next, in a loop with one worker at a time."""
        for _ in range(_ISSUES):
            self.issue()
        events = [json.loads(line) for line in self.tamma("orchestrate", "--until-idle", "--json").splitlines()]
        settled = [e for e in events if e["type"] == "TASK.SETTLE.SUCCEEDED"]
        assert [e["data"]["state"] for e in settled] == ["succeeded"] * _ISSUES, settled
        times = [datetime.fromisoformat(e["at"]) for e in settled]
        return median((b - a).total_seconds() for a, b in pairwise(times))

    def by_hand(self) -> float:
        """The script."""
        env = {
            "REMOTE": self.bare.as_uri(),
            "PATCH": str(self.patch),
            "BRANCH": f"by-hand-{next(self.numbers)}",
            **_AUTHOR,
        }
        return seconds_of(lambda: run(["sh", "-c", _SCRIPT], at=self.folder, env=env))


def own_time(place: Place, rounds: int) -> Iterator[Figure]:
    """Both sides deliver a branch with the same difference; Tamma also judges it, explains it and can be killed anywhere."""
    project = _project(place)
    try:
        project.in_the_loop()  # makes the database and the mirror
        found = in_turn(rounds, {"work": project.one_task, "loop": project.in_the_loop, "theirs": project.by_hand})
    finally:
        project.tamma("db", "stop")
    theirs = median(found["theirs"])
    for side in ("work", "loop"):
        ours = median(found[side])
        of_both = partial(Figure, peer=_PEER, ratio=theirs / ours, rounds=rounds)
        yield of_both(name=f"task-{side}", ours=ours, theirs=theirs, unit="s")
        yield of_both(name=f"task-{side}-added", ours=ours - theirs, theirs=0.0, unit="s added")


def _project(place: Place) -> Project:
    project = Project(place.fresh_folder("project"), count(1))
    source = place.fresh_folder("source")
    for number in range(_FILES):
        (source / f"module_{number:03}.py").write_text(f"ANSWER = {number}\n" * 50)
    (source / "answer.txt").write_text("41\n")
    (source / "check.sh").write_text("test -f answer.txt\n")
    run(["git", "init", "-q", "-b", "main"], at=source)
    run(["git", "add", "-A"], at=source)
    run(["git", "commit", "-q", "-m", "First"], at=source, env=_AUTHOR)
    (source / "answer.txt").write_text("42\n")
    project.patch.write_text(run(["git", "diff"], at=source))
    (project.folder / "forge" / "demo" / "issues").mkdir(parents=True)
    run(["git", "clone", "-q", "--bare", source, project.bare], at=source)
    (project.folder / "tamma.toml").write_text(_CONFIG.replace("{patch}", str(project.patch)))
    return project


_GIVES: Final = ("task-work", "task-work-added", "task-loop", "task-loop-added")
BENCHMARKS: Final = (Benchmark(name="task", gives=_GIVES, run=own_time),)
