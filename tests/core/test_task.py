"""The task's state machine, cell by cell."""

from __future__ import annotations

from typing import Any

import pytest

from tamma.core.errors import IllegalTransition
from tamma.core.ids import WorkerId
from tamma.core.task import CLAIMABLE, LIVE, TERMINAL, TRANSITIONS, TaskState, Trigger, advance, next_state
from tests.core.builders import NOW, a_task

CELLS = [(state, trigger) for state in TaskState for trigger in Trigger]


@pytest.mark.parametrize(("state", "trigger"), CELLS)
def test_every_cell_of_the_table_is_a_move_or_an_error(state: TaskState, trigger: Trigger) -> None:
    """All 77 cells: what the table has is made, everything else is refused."""
    task = a_task(state)
    if (state, trigger) not in TRANSITIONS:
        with pytest.raises(IllegalTransition):
            advance(task, trigger, at=NOW)
        return
    moved = advance(task, trigger, at=NOW, worker=WorkerId("host:2:boot"))
    assert moved.state is TRANSITIONS[state, trigger]
    assert (moved.worker is not None) == (moved.state is TaskState.RUNNING)
    assert (moved.finished_at is not None) == moved.is_terminal


def test_terminal_states_absorb() -> None:
    """Nothing moves a task that ended; a retry is a new generation."""
    assert not [cell for cell in TRANSITIONS if cell[0] in TERMINAL]


def test_every_state_can_be_reached_and_every_live_state_can_end() -> None:
    """No state is an island and none is a trap."""

    def reachable(start: TaskState) -> set[TaskState]:
        seen, todo = {start}, [start]
        while todo:
            here = todo.pop()
            for (state, _), to in TRANSITIONS.items():
                if state is here and to not in seen:
                    seen.add(to)
                    todo.append(to)
        return seen

    assert reachable(TaskState.QUEUED) == set(TaskState)
    assert all(reachable(state) & TERMINAL for state in LIVE)


def test_only_a_human_unblocks() -> None:
    """A blocked task has two ways out: unblock and cancel, both a person's."""
    assert {trigger for state, trigger in TRANSITIONS if state is TaskState.BLOCKED} == {
        Trigger.UNBLOCK,
        Trigger.CANCEL,
    }


def test_only_a_claim_makes_a_task_run() -> None:
    """Dispatch reserves; the worker's claim is what moves the task."""
    assert {t for (_, t), to in TRANSITIONS.items() if to is TaskState.RUNNING} == {Trigger.CLAIM}
    assert next_state(TaskState.RETRYABLE, Trigger.CLAIM) is TaskState.RUNNING


def test_the_sets_of_states_are_those_of_the_design() -> None:
    """What may be claimed, and what is over; everything else is live."""
    assert {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED} == TERMINAL
    assert {TaskState.QUEUED, TaskState.RETRYABLE} == CLAIMABLE
    assert set(TaskState) - TERMINAL == LIVE


def test_a_phase_lasts_as_long_as_the_task_runs() -> None:
    """And is nobody's when the attempt is over."""
    running = a_task(TaskState.RUNNING, phase="gates")
    assert advance(running, Trigger.RETRY, at=NOW).phase is None
    assert (
        advance(a_task(TaskState.QUEUED, phase="gates"), Trigger.CLAIM, at=NOW, worker=WorkerId("w")).phase == "gates"
    )


@pytest.mark.parametrize("wrong", [{"generation": 0}, {"epoch": -1}, {"worker": WorkerId("w")}, {"finished_at": NOW}])
def test_a_task_that_cannot_be_is_a_bug(wrong: dict[str, Any]) -> None:
    """Generations begin at 1 and epochs at 0; only a running task has a worker, and only one that is over an end."""
    assert (a_task().version, a_task().epoch, a_task().priority) == (1, 0, 0)
    with pytest.raises(AssertionError):
        a_task(**wrong)
