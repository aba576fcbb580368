"""What people can do about a task as it stands: on its issue, in ``tamma explain``, and where a command ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tamma.core.attempt import Outcome
from tamma.core.event import AgentFinished, ApprovalAsked, Event
from tamma.core.gate import GateVerdict
from tamma.core.ids import Oid
from tamma.core.redgreen import RED_GREEN
from tamma.core.task import Task, TaskState
from tamma.engine.failures import last_round
from tamma.ports.agent import AgentStatus

_ITS_CURE: Final = ". Next: "  # as a worker writes an error's cure behind its reason
_OF_THE_AGENT: Final = (Outcome.AGENT_FAILED, Outcome.BUDGET_SPENT)


def judged_commit(task: Task, events: Sequence[Event]) -> Oid | None:
    """The commit with which the task's newest attempt waits for approval, from the task's events; or, where it asked for none,
    since something was away or it was interrupted, the one that was approved before and never published."""
    asked = [e.fact.commit for e in events if isinstance(e.fact, ApprovalAsked) and e.fact.epoch == task.epoch]
    return asked[-1] if asked else task.approved


def has_asked(task: Task, events: Sequence[Event]) -> bool:
    """Whether it waits because its agent said that it is blocked; configuration and set-up block a task too."""
    return any(
        isinstance(e.fact, AgentFinished) and e.fact.epoch == task.epoch and e.fact.status == AgentStatus.BLOCKED
        for e in events
    )


def why_blocked(task: Task, events: Sequence[Event]) -> tuple[str, str]:
    """Why a blocked task waits, and the cure that came with it: of a failed set-up, or of an agent that cannot be started. There
    is none in what agents and gates say: whatever looks like one there is theirs."""
    is_of_gates = any(g.verdict == GateVerdict.UNABLE for g in last_round(events, epoch=task.epoch))
    why, mark, cure = task.reason.rpartition(_ITS_CURE)
    if not mark or not events or is_of_gates or has_asked(task, events) or cure.startswith("nothing"):
        return task.reason, ""
    return why, cure.removesuffix(", then `tamma task retry`")


def next_step(task: Task, events: Sequence[Event] = (), *, named: str = "") -> str:
    """What a human can do about a task as it stands, by its events where they are at hand; in `explain` and on the issue.

    ``named`` is what commands are to call it, by default its id: on an issue that must hold for ever.
    """
    name = named or task.id
    match task.state:
        case TaskState.BLOCKED:
            return f"{_of_blocked(task, events, name)}; `tamma task cancel {name}` ends it"
        case TaskState.FAILED | TaskState.CANCELLED:
            return _of_stopped(task, events, name)
        case TaskState.SUCCEEDED:
            return "review the change" if task.change else "close the issue"
        case TaskState.QUEUED:
            return f"an orchestrator starts it as soon as a slot is free; `tamma work --task-id {name}` runs it now"
        case TaskState.RETRYABLE:
            again = f"an orchestrator tries it again when its time has come; `tamma work --task-id {name}` does so now"
            return f"{again}; {_output(name)}" if task.outcome in _OF_THE_AGENT else again
        case TaskState.RUNNING:
            return "wait, or follow it with `tamma events --follow`"


def _of_blocked(task: Task, events: Sequence[Event], name: str) -> str:
    """By what it waits for: an approval, an answer to its agent, or that its cause is mended."""
    _, cure = why_blocked(task, events)
    if "`tamma task retry" in cure:  # a new task is the cure, not that this one goes on
        return cure.replace("`tamma task retry`", f"`tamma task retry {name}`")
    if judged_commit(task, events):
        first = f"{cure}; " if cure else ""
        return f"{first}look at it with `tamma task patch {name}`, then `tamma task approve {name}` publishes just that"
    if has_asked(task, events):
        cure = "answer by a comment on the issue, or with --answer"
    return f"{cure or 'mend its cause'}, then `tamma task approve {name}` lets it go on"


def _of_stopped(task: Task, events: Sequence[Event], name: str) -> str:
    """By what a failed or cancelled task came to."""
    again = f"mend the cause or the issue's text, then put the label on again, or `tamma task retry {name}`"
    if task.state is TaskState.CANCELLED:
        return again
    if task.outcome == Outcome.REFUSED:
        return (
            f"look at what was kept with `tamma task patch {name}`; if a rule of tamma.toml is wrong for this repository "
            f"(as change.protected_paths may be), correct it, else the issue's text; then `tamma task retry {name}`"
        )
    if _is_unproven(task, events):
        return (
            "ask for a test that fails without the change; where there can be none, as for an issue that only asks for tests, "
            f'set change.red_green = "advisory" in tamma.toml; then `tamma task retry {name}`'
        )
    return f"{_output(name)}; {again}" if task.outcome in _OF_THE_AGENT else again


def _output(name: str) -> str:
    return f"`tamma task output {name} agent` shows what the agent printed"


def _is_unproven(task: Task, events: Sequence[Event]) -> bool:
    """Whether nothing but red-green stopped the newest attempt, and no test was broken."""
    stopping = [g for g in last_round(events, epoch=task.epoch) if g.is_required and g.verdict == GateVerdict.FAIL]
    return bool(stopping) and all(g.gate == RED_GREEN and not g.regressed for g in stopping)
