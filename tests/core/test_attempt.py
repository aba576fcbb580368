"""What an outcome does to a task: the table of the design, row by row."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.attempt import PHASES, Outcome, Phase, Verdict, judge
from tamma.core.errors import ExitCode
from tamma.core.policy import ASKED_WAIT_MAX, RetryPolicy
from tamma.core.task import Counters, Notice, TaskState, Trigger

POLICY = RetryPolicy(attempts_max=3, infra_max=2, interruptions_max=2, crashes_max=2)
FRESH = Counters()

ROWS = [
    (Outcome.DELIVERED, FRESH, Trigger.SUCCEED, TaskState.SUCCEEDED, FRESH, 0, Notice.DELIVERED),
    (Outcome.NO_CHANGE_NEEDED, FRESH, Trigger.SUCCEED, TaskState.SUCCEEDED, FRESH, 0, Notice.UNCHANGED),
    (Outcome.AGENT_FAILED, FRESH, Trigger.RETRY, TaskState.RETRYABLE, Counters(attempts=1), 11, None),
    (Outcome.AGENT_FAILED, Counters(attempts=2), Trigger.EXHAUST, TaskState.FAILED, Counters(attempts=3), 11, Notice.ESCALATED),
    (Outcome.GATES_FAILED, FRESH, Trigger.EXHAUST, TaskState.FAILED, Counters(attempts=1), 10, Notice.ESCALATED),
    (Outcome.BUDGET_SPENT, FRESH, Trigger.EXHAUST, TaskState.FAILED, Counters(attempts=1), 12, Notice.ESCALATED),
    (Outcome.REFUSED, FRESH, Trigger.REFUSE, TaskState.FAILED, FRESH, 14, Notice.ESCALATED),
    (Outcome.BLOCKED, FRESH, Trigger.BLOCK, TaskState.BLOCKED, FRESH, 13, Notice.ASKED),
    (Outcome.CANCELLED, FRESH, Trigger.CANCEL, TaskState.CANCELLED, FRESH, 4, None),
    (Outcome.UNAVAILABLE, FRESH, Trigger.DEFER, TaskState.RETRYABLE, Counters(infra=1), 75, None),
    (Outcome.UNAVAILABLE, Counters(infra=1), Trigger.BLOCK, TaskState.BLOCKED, Counters(infra=2), 75, Notice.ESCALATED),
    (Outcome.INTERRUPTED, FRESH, Trigger.RELEASE, TaskState.QUEUED, Counters(interruptions=1), 143, None),
    (Outcome.INTERRUPTED, Counters(interruptions=1), Trigger.BLOCK, TaskState.BLOCKED, Counters(interruptions=2), 143, Notice.ESCALATED),
    (Outcome.CRASHED, FRESH, Trigger.CRASH, TaskState.RETRYABLE, Counters(crashes=1), 1, None),
    (Outcome.CRASHED, Counters(crashes=1), Trigger.EXHAUST, TaskState.FAILED, Counters(crashes=2), 1, Notice.ESCALATED),
]  # fmt: skip


@pytest.mark.parametrize(("outcome", "before", "trigger", "to", "after", "code", "notice"), ROWS)
def test_each_row_of_the_outcome_table(
    outcome: Outcome,
    before: Counters,
    trigger: Trigger,
    to: TaskState,
    after: Counters,
    code: int,
    notice: Notice | None,
) -> None:
    """Trigger, state, counter, exit code and who is told, exactly as the design says."""
    decision = judge(outcome, before, POLICY, chance=0.5)
    assert (decision.trigger, decision.to, decision.counters) == (trigger, to, after)
    assert (int(decision.exit_code), decision.notice) == (code, notice)


def test_every_outcome_but_a_lost_lease_is_judged() -> None:
    """A new outcome without a row fails here; a lost lease settles nothing, since the task is not ours."""
    assert {row[0] for row in ROWS} == set(Outcome) - {Outcome.LEASE_LOST}
    with pytest.raises(AssertionError):
        judge(Outcome.LEASE_LOST, FRESH, POLICY, chance=0)


def test_an_interruption_keeps_the_code_of_its_signal() -> None:
    """SIGINT is 130, SIGTERM is 143, and neither charges the attempt."""
    decision = judge(Outcome.INTERRUPTED, FRESH, POLICY, chance=0, signal_exit=ExitCode.SIGINT)
    assert decision.exit_code is ExitCode.SIGINT
    assert decision.counters.attempts == 0


@given(n=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_a_back_off_stays_between_half_a_step_and_its_bound(n: int, chance: float) -> None:
    """However often and whatever the chance: never zero, never beyond the longest wait."""
    policy = RetryPolicy(backoff_base=timedelta(seconds=10), backoff_max=timedelta(minutes=15))
    assert timedelta(seconds=5) <= policy.delay(n, chance=chance) <= timedelta(minutes=15)


@given(n=st.integers(1, 100), chance=st.floats(0, 1, exclude_max=True), seconds=st.floats(0, 10**9))
def test_who_was_told_to_come_later_does_not_come_before(n: int, chance: float, seconds: float) -> None:
    """At least as long as was asked for, and never shorter than the back-off; a day at most."""
    policy, asked = RetryPolicy(), timedelta(seconds=seconds)
    wait = policy.delay(n, chance=chance, asked=asked)
    assert wait >= min(asked, ASKED_WAIT_MAX)
    assert policy.delay(n, chance=chance) <= wait <= ASKED_WAIT_MAX


def test_what_was_asked_for_is_heard_only_where_something_waits() -> None:
    """An outage waits for it; an interruption, and an outage at its cap, do not wait at all."""
    asked = timedelta(hours=1)
    assert judge(Outcome.UNAVAILABLE, FRESH, POLICY, chance=0, retry_after=asked).delay == asked
    assert judge(Outcome.UNAVAILABLE, Counters(infra=1), POLICY, chance=0, retry_after=asked).delay is None
    assert judge(Outcome.INTERRUPTED, FRESH, POLICY, chance=0, retry_after=asked).delay is None


@given(counters=st.builds(Counters, attempts=st.integers(0, 50), infra=st.integers(0, 50), interruptions=st.integers(0, 50), crashes=st.integers(0, 50)),
       outcome=st.sampled_from(sorted(set(Outcome) - {Outcome.LEASE_LOST})), chance=st.floats(0, 1, exclude_max=True))  # fmt: skip
def test_one_outcome_moves_at_most_one_counter_by_one(counters: Counters, outcome: Outcome, chance: float) -> None:
    """Counters are separate: what the infrastructure did is never charged to the agent."""
    after = judge(outcome, counters, POLICY, chance=chance).counters
    moved = [
        getattr(after, name) - getattr(counters, name) for name in ("attempts", "infra", "interruptions", "crashes")
    ]
    assert sorted(moved) in ([0, 0, 0, 0], [0, 0, 0, 1])


def test_an_outcome_that_waits_has_a_delay_and_no_other() -> None:
    """Only a retry, a deferral and a crash wait; a released task goes on at once."""
    waiting = {o for o in set(Outcome) - {Outcome.LEASE_LOST} if judge(o, FRESH, POLICY, chance=0).delay}
    assert waiting == {Outcome.AGENT_FAILED, Outcome.UNAVAILABLE, Outcome.CRASHED}


def test_every_phase_leads_to_the_report() -> None:
    """An attempt can end from any phase, and nothing follows the report."""
    assert all(Phase.REPORT in PHASES[phase] for phase in PHASES if phase is not Phase.REPORT)
    assert PHASES[Phase.REPORT] == frozenset()
    assert set(PHASES) == {None, *Phase}


def test_counters_are_never_negative() -> None:
    """What cannot be is asserted."""
    with pytest.raises(AssertionError):
        replace(FRESH, crashes=-1)


def test_the_phases_follow_each_other_as_in_the_design() -> None:
    """Gates and repair alternate, an approved change goes straight to its publishing, and any phase may end in the report."""
    ways = {
        None: "prepare report", "prepare": "baseline publish report", "baseline": "implement audit report", "implement": "audit report",
        "audit": "gates report", "gates": "repair publish report", "repair": "audit report", "publish": "report", "report": "",
    }  # fmt: skip
    assert {phase: sorted(after) for phase, after in PHASES.items()} == {p: sorted(w.split()) for p, w in ways.items()}


def test_an_end_by_nobody_knows_which_signal_is_the_polite_one() -> None:
    """The code that a supervisor expects."""
    assert Verdict(outcome=Outcome.INTERRUPTED, reason="r").signal_exit is ExitCode.SIGTERM
