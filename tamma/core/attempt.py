"""One try at a task: its phases, what it came to, and what follows from that (DESIGN section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from tamma.core.errors import ExitCode
from tamma.core.event import TaskSettled
from tamma.core.policy import RetryPolicy
from tamma.core.task import Counters, Notice, TaskState, Trigger, next_state


@unique
class Phase(StrEnum):
    """Where an attempt is; the order is the pipeline's, and gates and repair alternate."""

    PREPARE = "prepare"
    BASELINE = "baseline"
    IMPLEMENT = "implement"
    AUDIT = "audit"
    GATES = "gates"
    REPAIR = "repair"
    PUBLISH = "publish"
    REPORT = "report"


PHASES: Final[Mapping[Phase | None, frozenset[Phase]]] = {
    None: frozenset({Phase.PREPARE, Phase.REPORT}),
    Phase.PREPARE: frozenset({Phase.BASELINE, Phase.PUBLISH, Phase.REPORT}),
    Phase.BASELINE: frozenset({Phase.IMPLEMENT, Phase.AUDIT, Phase.REPORT}),
    Phase.IMPLEMENT: frozenset({Phase.AUDIT, Phase.REPORT}),
    Phase.AUDIT: frozenset({Phase.GATES, Phase.REPORT}),
    Phase.GATES: frozenset({Phase.REPAIR, Phase.PUBLISH, Phase.REPORT}),
    Phase.REPAIR: frozenset({Phase.AUDIT, Phase.REPORT}),
    Phase.PUBLISH: frozenset({Phase.REPORT}),
    Phase.REPORT: frozenset(),
}


@unique
class Outcome(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    NO_CHANGE_NEEDED = "no change needed"
    GATES_FAILED = "gates failed"
    AGENT_FAILED = "agent failed"
    BUDGET_SPENT = "budget spent"
    BLOCKED = "blocked"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    UNAVAILABLE = "unavailable"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"
    LEASE_LOST = "lease lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome with its reason; for an interruption the exit code of its signal, for what was away how long to wait at least."""

    outcome: Outcome
    reason: str
    signal_exit: ExitCode = ExitCode.SIGTERM
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What an outcome does to the task: one row of the table of DESIGN section 4."""

    outcome: Outcome
    trigger: Trigger
    to: TaskState
    counters: Counters
    exit_code: ExitCode
    delay: timedelta | None = None
    notice: Notice | None = None

    def told(self, *, epoch: int, reason: str, run_after: datetime | None = None) -> TaskSettled:
        """The event of the attempt that it ends."""
        counters = self.counters
        return TaskSettled(
            epoch=epoch,
            outcome=self.outcome,
            trigger=self.trigger,
            state=self.to,
            reason=reason,
            attempts=counters.attempts,
            infra=counters.infra,
            interruptions=counters.interruptions,
            crashes=counters.crashes,
            exit_code=int(self.exit_code),
            notice=self.notice,
            run_after=run_after,
        )


def judge(
    outcome: Outcome,
    counters: Counters,
    policy: RetryPolicy,
    *,
    chance: float,
    signal_exit: ExitCode = ExitCode.SIGTERM,
    retry_after: timedelta | None = None,
) -> Decision:
    """The decision for a running task whose attempt came to ``outcome``.

    ``chance`` in [0, 1) is the jitter of a back-off, which ``retry_after`` may make longer. ``lease lost`` decides nothing: the
    task is not ours any more, and asking is a bug.
    """
    match outcome:
        case Outcome.DELIVERED:
            return _end(outcome, Trigger.SUCCEED, counters, ExitCode.DELIVERED, Notice.DELIVERED)
        case Outcome.NO_CHANGE_NEEDED:
            return _end(outcome, Trigger.SUCCEED, counters, ExitCode.DELIVERED, Notice.UNCHANGED)
        case Outcome.GATES_FAILED:
            spent = replace(counters, attempts=counters.attempts + 1)
            return _end(outcome, Trigger.EXHAUST, spent, ExitCode.GATES_FAILED, Notice.ESCALATED)
        case Outcome.BUDGET_SPENT:
            spent = replace(counters, attempts=counters.attempts + 1)
            return _end(outcome, Trigger.EXHAUST, spent, ExitCode.BUDGET_SPENT, Notice.ESCALATED)
        case Outcome.REFUSED:
            return _end(outcome, Trigger.REFUSE, counters, ExitCode.REFUSED, Notice.ESCALATED)
        case Outcome.BLOCKED:
            return _end(outcome, Trigger.BLOCK, counters, ExitCode.BLOCKED, Notice.ASKED)
        case Outcome.CANCELLED:
            return _end(outcome, Trigger.CANCEL, counters, ExitCode.NOT_CLAIMABLE, None)
        case Outcome.AGENT_FAILED | Outcome.UNAVAILABLE | Outcome.INTERRUPTED | Outcome.CRASHED:
            decision, n = _again(outcome, counters, policy, signal_exit=signal_exit)
            return replace(decision, delay=policy.delay(n, chance=chance, asked=retry_after)) if n else decision
        case Outcome.LEASE_LOST:
            raise AssertionError("a lost lease settles nothing")


def _end(
    outcome: Outcome, trigger: Trigger, counters: Counters, exit_code: ExitCode, notice: Notice | None
) -> Decision:
    to = next_state(TaskState.RUNNING, trigger)
    return Decision(outcome=outcome, trigger=trigger, to=to, counters=counters, exit_code=exit_code, notice=notice)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    counter: str
    trigger: Trigger
    at_cap: Trigger
    exit_code: ExitCode
    waits: bool = True


_AGAIN: Final[Mapping[Outcome, _Again]] = {
    Outcome.AGENT_FAILED: _Again(counter="attempts", trigger=Trigger.RETRY, at_cap=Trigger.EXHAUST, exit_code=ExitCode.AGENT_FAILED),
    Outcome.UNAVAILABLE: _Again(counter="infra", trigger=Trigger.DEFER, at_cap=Trigger.BLOCK, exit_code=ExitCode.TEMPORARY),
    Outcome.INTERRUPTED: _Again(counter="interruptions", trigger=Trigger.RELEASE, at_cap=Trigger.BLOCK, exit_code=ExitCode.SIGTERM, waits=False),
    Outcome.CRASHED: _Again(counter="crashes", trigger=Trigger.CRASH, at_cap=Trigger.EXHAUST, exit_code=ExitCode.BUG),
}  # fmt: skip


def _again(outcome: Outcome, counters: Counters, policy: RetryPolicy, *, signal_exit: ExitCode) -> tuple[Decision, int]:
    """Try again until the counter of this kind of end is at its cap; then hand the issue to a human. Also how many of these there
    were, by which a back-off grows; 0 for no back-off."""
    rule = _AGAIN[outcome]
    n = getattr(counters, rule.counter) + 1
    counted = replace(counters, **{rule.counter: n})
    exit_code = signal_exit if outcome is Outcome.INTERRUPTED else rule.exit_code
    if n >= getattr(policy, f"{rule.counter}_max"):
        return _end(outcome, rule.at_cap, counted, exit_code, Notice.ESCALATED), 0
    return _end(outcome, rule.trigger, counted, exit_code, None), n if rule.waits else 0
