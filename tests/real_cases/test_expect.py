"""What the driver of the real cases lets pass, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.real_cases.case import Built, Case
from tests.real_cases.expect import Seen, judge

TASK = "c0ffee00-0000-4000-8000-000000000001"
TEST = "tests/test_a.py::test_new"


def test_a_proven_delivery_is_what_gold_must_make() -> None:
    """One change, solved, whose evidence names the test, after one attempt without repairs."""
    assert judge(_delivered(), _built(), agent="gold") == []


def test_a_delivery_that_the_grader_refuses_is_wrong() -> None:
    """The grader's word counts, whatever Tamma says of itself."""
    seen = _delivered()
    seen.graded = {"solved": False, "problems": ["broken: t"]}
    assert judge(seen, _built(), agent="gold") == ["not solved: ['broken: t']"]


def test_evidence_without_the_test_is_wrong() -> None:
    """Red to green must name every test that the case says, in the log and in the change."""
    seen = _delivered()
    seen.events[0]["data"]["fixed"] = ["tests/test_a.py::test_other"]
    seen.change_texts = ["- `tests/test_a.py::test_other`"]
    assert len(judge(seen, _built(), agent="gold")) == 2


def test_a_repair_too_many_is_wrong() -> None:
    """Gold needs none; what mends needs one, and a gate that failed before it."""
    seen = _delivered()
    seen.attempts[0]["repairs"] = 1
    assert judge(seen, _built(), agent="gold") == ["1 repairs, none was needed"]
    assert judge(seen, _built(), agent="mends") == ["the gate did not fail on the broken round"]


def test_a_delivery_is_not_what_nothing_and_never_must_make() -> None:
    """A change, a branch and a success are each named."""
    for agent in ("nothing", "never"):
        assert len(judge(_delivered(), _built(), agent=agent)) >= 5


def test_a_second_escalation_is_wrong() -> None:
    """A human is asked once."""
    seen = _handed_back(exit_code=10, repairs=2)
    assert judge(seen, _built(), agent="never") == []
    seen.issue_text *= 2
    assert judge(seen, _built(), agent="never") == ["escalated 2 times", "2 notices of any kind on the issue"]


def _delivered() -> Seen:
    red_green = {"gate": "red-green", "verdict": "pass", "round": 0, "fixed": [TEST]}
    return Seen(
        explained=_explained("succeeded", exit_code=0) | {"change": {"id": "1"}},
        events=[{"type": "GATE.RUN.FINISHED", "data": red_green}],
        issue_text=f"<!-- tamma:notice=delivered task={TASK} epoch=1 -->",
        change_texts=[f"- `{TEST}`"],
        branches=["main", "tamma/1"],
        graded={"solved": True, "problems": []},
    )


def _handed_back(*, exit_code: int, repairs: int) -> Seen:
    text = f"<!-- tamma:notice=escalated task={TASK} epoch=1 -->"
    explained = _explained("failed", exit_code=exit_code, repairs=repairs)
    return Seen(explained=explained, events=[], issue_text=text, change_texts=[], branches=["main"])


def _explained(state: str, *, exit_code: int, repairs: int = 0) -> dict[str, Any]:
    attempt = {"epoch": 1, "exit_code": exit_code, "repairs": repairs, "gates": [], "diff": {"files": 1, "lines": 2}}
    return {"task": {"id": TASK, "state": state}, "attempts": [attempt], "change": None, "next": "x", "status": "y"}


def _built() -> Built:
    here = Path("case")
    case = Case(
        id="a", file=here, ecosystem="pypi", title="t", body="b", run_files=("tests/test_a.py",), test_files=(), pythonpath=(".",),
        env={}, test_requires=(), fail_to_pass=(TEST,), timeout_seconds=1,
    )  # fmt: skip
    return Built(case=case, folder=here, builder=here)
