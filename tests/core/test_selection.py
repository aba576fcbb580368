"""Which issues are taken, in which order, and that every no has a reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.change import ChangeState
from tamma.core.issue import IssueState
from tamma.core.policy import Limits, Order, SelectionPolicy
from tamma.core.selection import Why, rank, reason_to_stop, reasons_against
from tamma.core.task import Notice, TaskState
from tests.core.builders import NOW, a_change, a_task, an_issue

POLICY, LIMITS = SelectionPolicy(), Limits()


def against(issue: Any = None, **changes: Any) -> set[Why]:
    """The reasons, with everything else in favour."""
    given_: dict[str, Any] = {
        "task": None,
        "changes": (),
        "open_changes": 0,
        "policy": POLICY,
        "limits": LIMITS,
        "user": "tamma",
    }
    return {r.why for r in reasons_against(issue or an_issue(), **(given_ | changes))}


def test_an_open_labelled_issue_is_eligible() -> None:
    """Nothing speaks against it."""
    assert against() == set()


@pytest.mark.parametrize(
    ("issue", "policy", "why"),
    [
        (an_issue(state=IssueState.CLOSED), POLICY, Why.CLOSED),
        (an_issue(labels=frozenset({"bug"})), POLICY, Why.NOT_LABELLED),
        (an_issue(), SelectionPolicy(labels_all=frozenset({"ready"})), Why.LABEL_MISSING),
        (an_issue(labels=frozenset({"tamma", "wontfix"})), POLICY, Why.LABEL_FORBIDS),
        (an_issue(), SelectionPolicy(assignee="bob"), Why.OTHER_ASSIGNEE),
        (an_issue(author="mallory"), SelectionPolicy(authors=frozenset({"alice"})), Why.AUTHOR_NOT_ALLOWED),
        (an_issue(blocked_by=("7",)), POLICY, Why.BLOCKED_BY),
        (an_issue(body="x" * 70_000), POLICY, Why.TOO_LARGE),
    ],
)
def test_each_rule_about_the_issue_has_its_reason(issue: Any, policy: SelectionPolicy, why: Why) -> None:
    """One rule broken, one reason."""
    assert against(issue, policy=policy) == {why}


@pytest.mark.parametrize(
    "state", [s for s in TaskState if s not in {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED}]
)
def test_an_issue_with_a_live_task_gets_no_second(state: TaskState) -> None:
    """One live task per issue."""
    assert against(task=a_task(state)) == {Why.HAS_TASK}


def test_a_finished_issue_is_taken_again_only_when_the_label_was_put_on_again() -> None:
    """Tamma takes the label off as it tells the issue; a label that is there after that is a human's act."""
    told = a_task(TaskState.FAILED)
    untold = a_task(TaskState.FAILED, notice=Notice.ESCALATED)
    assert against(task=told) == set()
    assert against(task=untold) == {Why.NOT_ASKED_AGAIN}
    assert Why.NOT_ASKED_AGAIN in against(an_issue(labels=frozenset()), task=told)


@pytest.mark.parametrize("state", list(ChangeState))
def test_a_change_of_ours_keeps_its_issue_from_being_redone(state: ChangeState) -> None:
    """Open: under review. Merged: done. Closed unmerged by a human: do not redo."""
    assert against(changes=[a_change(state)]) == {Why.HAS_CHANGE}


def test_a_change_of_somebody_else_neither_suppresses_nor_redirects_us() -> None:
    """Only what our own user wrote counts as ours."""
    assert against(changes=[a_change(author="mallory")]) == set()


def test_too_many_open_changes_stop_new_ones() -> None:
    """Reviewers are the bottleneck; the limit counts on its own."""
    assert against(open_changes=20) == {Why.TOO_MANY_CHANGES}


ISSUES = st.lists(
    st.builds(
        lambda n, days, p: an_issue(str(n), created_at=NOW + timedelta(days=days), labels=frozenset({"tamma", f"priority:{p}"})),
        st.integers(1, 10_000), st.integers(0, 5), st.integers(0, 3),
    ),
    unique_by=lambda issue: issue.ref, max_size=12,
)  # fmt: skip


@given(issues=ISSUES, order=st.sampled_from(list(Order)), data=st.data())
def test_the_order_is_total_and_does_not_depend_on_how_the_forge_listed_them(
    issues: list[Any], order: Order, data: st.DataObject
) -> None:
    """Any permutation ranks the same."""
    policy = SelectionPolicy(order=order)
    shuffled = data.draw(st.permutations(issues))
    assert rank(issues, policy) == rank(shuffled, policy)


def test_priority_goes_before_age() -> None:
    """priority:1 before priority:2 before none, then the oldest."""
    old = an_issue("1", created_at=NOW)
    low = an_issue("2", created_at=NOW + timedelta(1), labels=frozenset({"tamma", "priority:2"}))
    high = an_issue("3", created_at=NOW + timedelta(2), labels=frozenset({"tamma", "priority:1"}))
    ranked = rank([old, low, high], SelectionPolicy(order=Order.PRIORITY))
    assert [issue.ref.number for issue in ranked] == ["3", "2", "1"]


def test_a_closed_or_unlabelled_issue_calls_its_task_off() -> None:
    """Never a surprise change; but a person who named the issue needs no label."""
    assert reason_to_stop(an_issue(state=IssueState.CLOSED), a_task(), POLICY)
    assert reason_to_stop(an_issue(labels=frozenset()), a_task(), POLICY)
    assert not reason_to_stop(an_issue(labels=frozenset()), a_task(asked_by="alice"), POLICY)
    assert not reason_to_stop(an_issue(), a_task(), POLICY)
