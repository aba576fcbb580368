"""What a tick decides: repair before dispatch, and never more than the limits allow."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tamma.core.policy import Limits, RetryPolicy, SelectionPolicy
from tamma.core.reconcile import (
    Action,
    CallOff,
    Create,
    Dispatch,
    MarkOffline,
    Prospect,
    Reap,
    Tell,
    Unreserve,
    View,
    reconcile,
)
from tamma.core.selection import Reason, Why
from tamma.core.task import Notice, TaskState
from tests.core.builders import NOW, a_task, an_issue

ORDER = (Reap, Unreserve, MarkOffline, CallOff, Tell, Create, Dispatch)


def decided(view: View, **limits: Any) -> tuple[Action, ...]:
    """With the usual policies."""
    return reconcile(view, limits=Limits(**limits), selection=SelectionPolicy(), retry=RetryPolicy(), chance=0.5)


def a_view(**facts: Any) -> View:
    """An empty world with free slots."""
    return View(now=NOW, **({"slots": 10} | facts))


def test_repair_comes_before_dispatch() -> None:
    """The order of the actions is the policy."""
    view = a_view(
        expired=(a_task(TaskState.RUNNING, number="1"),), overdue=(a_task(number="2").id,), silent_workers=("w",),
        called_off=((a_task(number="3"), "closed"),), untold=(a_task(TaskState.FAILED, number="4", notice=Notice.ESCALATED),),
        prospects=(Prospect(issue=an_issue("5")),), ready=(a_task(number="6"),),
    )  # fmt: skip
    ranks = [ORDER.index(type(action)) for action in decided(view)]
    assert ranks == sorted(ranks)
    assert {type(action) for action in decided(view)} == set(ORDER)


def test_what_is_reaped_together_does_not_come_due_together() -> None:
    """A machine with eight workers died: its tasks are tried again at eight moments."""
    view = a_view(expired=tuple(a_task(TaskState.RUNNING, number=str(n)) for n in range(8)))
    delays = [action.decision.delay for action in decided(view) if isinstance(action, Reap)]
    assert len(set(delays)) == 8


def test_an_ineligible_issue_makes_no_task() -> None:
    """A reason against is enough."""
    bad = Prospect(issue=an_issue(), against=(Reason(why=Why.CLOSED, text="closed"),))
    assert decided(a_view(prospects=(bad,))) == ()


def test_a_new_task_is_dispatched_in_the_tick_that_makes_it() -> None:
    """Its id is known beforehand, so nothing waits for the next tick."""
    create, dispatch = decided(a_view(prospects=(Prospect(issue=an_issue()),)))
    assert isinstance(create, Create)
    assert isinstance(dispatch, Dispatch)
    assert create.task_id == dispatch.task_id


def test_a_task_that_is_called_off_is_not_dispatched() -> None:
    """Closing an issue wins over a free slot."""
    task = a_task()
    assert [type(a) for a in decided(a_view(called_off=((task, "closed"),), ready=(task,)))] == [CallOff]


def test_a_task_waits_for_a_worker_that_can_do_it() -> None:
    """Wanted capabilities must be a subset of ours."""
    task = a_task(capabilities=("gpu",))
    assert decided(a_view(ready=(task,))) == ()
    assert len(decided(a_view(ready=(task,), capabilities=frozenset({"gpu", "x"})))) == 1


@given(
    queue=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 99)), max_size=25, unique=True),
    slots=st.integers(0, 8), running=st.integers(1, 8), per_repository=st.integers(1, 4), occupied=st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
)  # fmt: skip
def test_dispatch_never_exceeds_any_limit_and_wastes_no_slot(
    queue: list[tuple[str, int]], slots: int, running: int, per_repository: int, occupied: dict[str, int]
) -> None:
    """Slots here, tasks in all, tasks per repository: each bound holds, and work waits only at one of them."""
    ready = tuple(a_task(number=str(n), repository=r) for r, n in queue)
    view = a_view(ready=ready, slots=slots, occupied={("local", r): n for r, n in occupied.items()})
    actions = decided(view, running=running, running_per_repository=per_repository)
    started = Counter(a.ref.repository for a in actions if isinstance(a, Dispatch))
    total = sum(started.values())
    assert total <= slots
    assert total + sum(occupied.values()) <= max(running, sum(occupied.values()))
    for name, n in started.items():
        assert n + occupied.get(name, 0) <= per_repository
    left = Counter(r for r, _ in queue) - started
    full = total == slots or total + sum(occupied.values()) >= running
    assert full or all(started[r] + occupied.get(r, 0) >= per_repository for r in left)


def test_the_same_view_gives_the_same_actions() -> None:
    """Pure: a dry run prints what the tick then does."""
    view = a_view(prospects=tuple(Prospect(issue=an_issue(str(n))) for n in range(5)), ready=(a_task(number="9"),))
    assert decided(view) == decided(view)
