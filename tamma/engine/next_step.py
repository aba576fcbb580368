"""What people can do about a task as it stands: on its issue, in ``tamma explain``, and where a command ends."""

from __future__ import annotations

from collections.abc import Sequence

from tamma.core.attempt import Outcome
from tamma.core.event import ApprovalAsked, Event
from tamma.core.gate import GateVerdict
from tamma.core.ids import Oid
from tamma.core.redgreen import RED_GREEN
from tamma.core.task import Task, TaskState
from tamma.engine.failures import last_round


def judged_commit(task: Task, events: Sequence[Event]) -> Oid | None:
    """The commit with which the task's newest attempt waits for approval, from the task's events; or, where it asked for none,
    since something was away or it was interrupted, the one that was approved before and never published."""
    asked = [e.fact.commit for e in events if isinstance(e.fact, ApprovalAsked) and e.fact.epoch == task.epoch]
    return asked[-1] if asked else task.approved


def next_step(task: Task, events: Sequence[Event] = (), *, named: str = "") -> str:
    """What a human can do about a task as it stands, by its events where they are at hand; in `explain` and on the issue.

    ``named`` is what commands are to call it, by default its id: on an issue that must hold for ever.
    """
    name = named or task.id
    match task.state:
        case TaskState.BLOCKED if judged_commit(task, events):
            return (
                f"look at it with `tamma task patch {name}`, then `tamma task approve {name}` publishes just that; "
                f"`tamma task cancel {name}` ends it"
            )
        case TaskState.BLOCKED:
            return (
                f"answer by a comment on the issue or mend its cause, then `tamma task approve {name}` lets it go on; "
                f"`tamma task cancel {name}` ends it"
            )
        case TaskState.FAILED if task.outcome == Outcome.REFUSED:
            return (
                f"look at what was kept with `tamma task patch {name}`; if a rule of tamma.toml is wrong for this repository "
                f"(as change.protected_paths may be), correct it, else the issue's text; then `tamma task retry {name}`"
            )
        case TaskState.FAILED if _is_unproven(task, events):
            return (
                "ask for a test that fails without the change; where there can be none, as for an issue that only asks for tests, "
                f'set change.red_green = "advisory" in tamma.toml; then `tamma task retry {name}`'
            )
        case TaskState.FAILED | TaskState.CANCELLED:
            return f"mend the cause or the issue's text, then put the label on again, or `tamma task retry {name}`"
        case TaskState.SUCCEEDED:
            return "review the change" if task.change else "close the issue"
        case TaskState.QUEUED:
            return f"an orchestrator starts it as soon as a slot is free; `tamma work --task-id {name}` runs it now"
        case TaskState.RETRYABLE:
            return f"an orchestrator tries it again when its time has come; `tamma work --task-id {name}` does so now"
        case TaskState.RUNNING:
            return "wait, or follow it with `tamma events --follow`"


def _is_unproven(task: Task, events: Sequence[Event]) -> bool:
    """Whether nothing but red-green stopped the newest attempt, and no test was broken."""
    stopping = [g for g in last_round(events, epoch=task.epoch) if g.is_required and g.verdict == GateVerdict.FAIL]
    return bool(stopping) and all(g.gate == RED_GREEN and not g.regressed for g in stopping)
