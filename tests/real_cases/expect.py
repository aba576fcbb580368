"""How each agent must make a case end, and whether it did; asked of the commands, the forge and the grader."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tamma.core.change import notice_marker
from tamma.core.ids import TaskId
from tamma.core.outward import code
from tamma.core.redgreen import RED_GREEN
from tamma.core.task import Notice
from tests.real_cases import tamma_run
from tests.real_cases.case import Built, checked, grade
from tests.real_cases.site import BRANCH, GATE, ISSUE, Site

ATTEMPTS_MAX: Final = 3
REPAIRS_MAX: Final = 2
EXIT_GATES_FAILED: Final = 10
EXIT_AGENT_FAILED: Final = 11
_MORE_IDS: Final = re.compile(r"^- … \d+ more; the event log has all of them$", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What can be seen from outside of one case after the run."""

    explained: dict[str, Any]
    events: list[dict[str, Any]]
    issue_text: str
    change_texts: list[str]
    branches: list[str]
    graded: dict[str, Any] | None = None

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt, as `explain` tells it."""
        found: list[dict[str, Any]] = self.explained["attempts"]
        return found

    def facts(self, kind: str) -> list[dict[str, Any]]:
        """The data of every event of a type, in order."""
        return [event["data"] for event in self.events if event["type"] == kind]

    def red_to_green(self) -> list[str]:
        """Ids that the last red-green check saw go from red to green."""
        judged = [fact for fact in self.facts("GATE.RUN.FINISHED") if fact["gate"] == RED_GREEN]
        ids: list[str] = judged[-1]["fixed"] if judged else []
        return ids

    def notices(self, notice: Notice) -> int:
        """How many comments on the issue tell this about the task."""
        task = TaskId(self.explained["task"]["id"])
        epochs = [None, *(attempt["epoch"] for attempt in self.attempts)]
        return sum(self.issue_text.count(notice_marker(task, notice=notice, epoch=epoch)) for epoch in epochs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the table."""

    case: str
    ok: bool
    problems: list[str]
    state: str
    exit_code: int | None
    attempts: int
    repairs: int
    solved: bool | None
    red_to_green: int
    fail_to_pass: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Problems:
    """Collects what is not as it must be."""

    found: list[str] = field(default_factory=list)

    def expect(self, truth: object, otherwise: str) -> None:
        """Note ``otherwise`` unless ``truth`` holds."""
        if not truth:
            self.found.append(otherwise)


def look(site: Site, built: Built, *, agent: str, python: Path | None) -> Finding:
    """Ask the commands about one case, grade what was delivered, and judge."""
    issue = f"{built.case.id}#{ISSUE}"
    seen = Seen(
        explained=tamma_run.ask(site, "explain", issue, "--json"),
        events=tamma_run.events(site, issue),
        issue_text=site.issue_file(built.case).read_text(encoding="utf-8"),
        change_texts=[file.read_text(encoding="utf-8") for file in site.change_files(built.case)],
        branches=_branches(site.repository(built.case)),
    )
    if BRANCH in seen.branches:
        seen.graded = _grade(site, built, python)
    return _finding(built, seen, judge(seen, built, agent=agent))


def judge(seen: Seen, built: Built, *, agent: str) -> list[str]:
    """What is not as this agent must make it; empty when all is."""
    problems = _Problems()
    if seen.explained["task"] is None or not seen.attempts:
        return [f"never tried: {seen.explained['status']}"]
    _EXPECTATIONS[agent](seen, built, problems)
    return problems.found


def _gold(seen: Seen, built: Built, problems: _Problems) -> None:
    _delivered(seen, built, problems)
    problems.expect(len(seen.attempts) == 1, f"{len(seen.attempts)} attempts for one delivery")
    problems.expect(seen.attempts[-1]["repairs"] == 0, f"{seen.attempts[-1]['repairs']} repairs, none was needed")


def _mends(seen: Seen, built: Built, problems: _Problems) -> None:
    _delivered(seen, built, problems)
    problems.expect(len(seen.attempts) == 1, f"{len(seen.attempts)} attempts for one delivery")
    problems.expect(
        seen.attempts[-1]["repairs"] == 1, f"{seen.attempts[-1]['repairs']} repairs, exactly one was needed"
    )
    first = [f for f in seen.facts("GATE.RUN.FINISHED") if f["round"] == 0 and f["gate"] == GATE]
    problems.expect(first and first[0]["verdict"] == "fail", "the gate did not fail on the broken round")


def _never(seen: Seen, _built: Built, problems: _Problems) -> None:
    last = seen.attempts[-1]
    _not_delivered(seen, problems)
    problems.expect(
        last["exit_code"] == EXIT_GATES_FAILED, f"the last attempt exited {last['exit_code']}, not {EXIT_GATES_FAILED}"
    )
    problems.expect(len(seen.attempts) == 1, f"{len(seen.attempts)} attempts: spent repairs are not tried again")
    problems.expect(last["repairs"] == REPAIRS_MAX, f"{last['repairs']} repairs, {REPAIRS_MAX} are allowed")
    _escalated_once(seen, problems)


def _nothing(seen: Seen, _built: Built, problems: _Problems) -> None:
    _not_delivered(seen, problems)
    codes = [attempt["exit_code"] for attempt in seen.attempts]
    problems.expect(codes == [EXIT_AGENT_FAILED] * ATTEMPTS_MAX, f"the attempts exited {codes}")
    last = seen.attempts[-1]
    problems.expect(last["diff"] == {"files": 0, "lines": 0}, f"explain tells a diff of {last['diff']}")
    problems.expect(last["epoch"] == len(seen.attempts), f"explain tells attempt {last['epoch']}")
    problems.expect("gates" in last, "explain tells no gates")
    problems.expect(seen.explained["next"], "explain tells no next step")
    _escalated_once(seen, problems)


_EXPECTATIONS: Final[Mapping[str, Callable[[Seen, Built, _Problems], None]]] = {
    "gold": _gold, "nothing": _nothing, "mends": _mends, "never": _never,
}  # fmt: skip
AGENTS: Final = tuple(_EXPECTATIONS)


def _delivered(seen: Seen, built: Built, problems: _Problems) -> None:
    state = seen.explained["task"]["state"]
    problems.expect(state == "succeeded", f"{state}: {seen.explained['status']}")
    problems.expect(len(seen.change_texts) == 1, f"{len(seen.change_texts)} changes, one is wanted")
    problems.expect(seen.branches.count(BRANCH) == 1, f"branches {seen.branches}")
    problems.expect(seen.explained["change"], "explain tells no change")
    problems.expect(seen.notices(Notice.DELIVERED) == 1, f"the issue was told {seen.notices(Notice.DELIVERED)} times")
    if seen.graded is not None and not seen.graded["solved"]:
        problems.found.append(f"not solved: {seen.graded['problems']}")
    proven = set(seen.red_to_green())
    missing = [test for test in built.case.fail_to_pass if test not in proven]
    problems.expect(not missing, f"not among the red → green ids of the log: {missing}")
    text = "\n".join(seen.change_texts)
    if not _MORE_IDS.search(text):
        hidden = [test for test in built.case.fail_to_pass if code(test) not in text]
        problems.expect(not hidden, f"not named in the change: {hidden}")


def _not_delivered(seen: Seen, problems: _Problems) -> None:
    state = seen.explained["task"]["state"]
    problems.expect(state == "failed", f"the task is {state}, not failed")
    problems.expect(not seen.change_texts, f"{len(seen.change_texts)} changes, none is wanted")
    problems.expect(not [b for b in seen.branches if b.startswith("tamma/")], f"branches {seen.branches}")
    problems.expect(not seen.explained["change"], "explain tells a change")


def _escalated_once(seen: Seen, problems: _Problems) -> None:
    told = seen.notices(Notice.ESCALATED)
    problems.expect(told == 1, f"escalated {told} times")
    everything = seen.issue_text.count("<!-- tamma:notice=")
    problems.expect(everything == 1, f"{everything} notices of any kind on the issue")


def _finding(built: Built, seen: Seen, problems: list[str]) -> Finding:
    last = seen.attempts[-1] if seen.attempts else {}
    runs = [f["duration_ms"] for kind in ("GATE.RUN.FINISHED", "AGENT.RUN.FINISHED") for f in seen.facts(kind)]
    return Finding(
        case=built.case.id,
        ok=not problems,
        problems=problems,
        state=(seen.explained["task"] or {}).get("state", "no task"),
        exit_code=last.get("exit_code"),
        attempts=len(seen.attempts),
        repairs=last.get("repairs", 0),
        solved=None if seen.graded is None else seen.graded["solved"],
        red_to_green=len(seen.red_to_green()),
        fail_to_pass=len(built.case.fail_to_pass),
        seconds=sum(runs) / 1000,
    )


def _branches(repository: Path) -> list[str]:
    told = subprocess.run(
        ["git", "--git-dir", str(repository), "for-each-ref", "--format=%(refname:short)", "refs/heads"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return told.stdout.split()


def _grade(site: Site, built: Built, python: Path | None) -> dict[str, Any]:
    clone = site.root / "clones" / built.case.id
    clone.parent.mkdir(exist_ok=True)
    checked(
        ["git", "clone", "-q", "--branch", BRANCH, str(site.repository(built.case)), str(clone)],
        what="the delivered branch",
    )
    return grade(built, candidate=clone, python=python)
