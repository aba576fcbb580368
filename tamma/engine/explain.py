"""Why not picked, why waiting, why stopped, what next: one answer, the same for the CLI, a script and the issue itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tamma.core.attempt import Phase
from tamma.core.errors import NoSuchTask, PermanentError, TransientError
from tamma.core.event import (
    AgentFinished,
    ChangeDelivered,
    Event,
    GateJudged,
    PhaseEntered,
    TaskClaimed,
    TaskReaped,
    TaskSettled,
    TreeAudited,
    WorkSalvaged,
    task_stream,
)
from tamma.core.ids import IssueRef, TaskId
from tamma.core.issue import Issue
from tamma.core.selection import Reason
from tamma.core.task import Task, TaskKind, TaskState
from tamma.engine.intake import Intake
from tamma.engine.notices import next_step
from tamma.engine.plan import Policies
from tamma.ports.forge import Forge
from tamma.ports.store import Store


@dataclass(slots=True, kw_only=True)
class AttemptStory:
    """One attempt, as its events tell it."""

    epoch: int
    worker: str
    started_at: datetime
    phase: str = ""
    agent: dict[str, Any] | None = None
    diff: dict[str, int] = field(default_factory=lambda: {"files": 0, "lines": 0})
    gates: list[dict[str, str]] = field(default_factory=list)
    repairs: int = 0
    outcome: str = ""
    reason: str = ""
    exit_code: int | None = None
    patch: str | None = None


@dataclass(slots=True, kw_only=True)
class Explanation:
    """The whole answer. ``status`` is one sentence; ``next`` says what to do, or that nothing needs to be done."""

    issue: str
    title: str
    status: str
    next: str
    reasons: list[dict[str, str]] = field(default_factory=list)
    task: dict[str, Any] | None = None
    attempts: list[AttemptStory] = field(default_factory=list)
    change: dict[str, str] | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Asks the same questions as the loop, about one issue."""

    store: Store
    forge: Forge
    intake: Intake
    policies: Policies

    def issue(self, ref: IssueRef) -> Explanation:
        """Raises NoSuchTask if neither the forge nor the store knows the issue."""
        task = self.store.tasks.newest([ref], TaskKind.RESOLVE).get(ref)
        issue, trouble = self._read(ref)
        if issue is None and task is None:
            raise NoSuchTask(f"no issue {ref}", why=trouble, fix="look at the number and the repository's name")
        reasons = self._reasons(issue, task) if issue else None
        found = self._told(ref, issue.title if issue else task.title if task else "", task, reasons)
        found.trouble = trouble
        return found

    def task(self, task_id: TaskId) -> Explanation:
        """Raises NoSuchTask."""
        task = self.store.tasks.get(task_id)
        return self._told(task.ref, task.title, task, None)

    def _read(self, ref: IssueRef) -> tuple[Issue | None, str]:
        try:
            return self.forge.issue(ref), ""
        except (NoSuchTask, PermanentError, TransientError) as error:
            return None, str(error)

    def _reasons(self, issue: Issue, task: Task | None) -> tuple[Reason, ...] | None:
        """Why no task is made for it now; None where its task is the answer already."""
        if task is not None and (not task.is_terminal or task.state is TaskState.SUCCEEDED):
            return None
        open_changes = self.forge.count_open_changes(issue.ref.repository)
        return self.intake.judge(issue, newest=task, open_changes=open_changes).against

    def _told(self, ref: IssueRef, title: str, task: Task | None, reasons: Sequence[Reason] | None) -> Explanation:
        events = self.store.events.stream(task_stream(task.id)) if task else ()
        return Explanation(
            issue=str(ref),
            title=title,
            status=self._status(task, reasons),
            next=_next(task, reasons or ()),
            reasons=[{"why": r.why.value, "text": r.text, "fix": r.fix} for r in reasons or ()],
            task=describe_task(task) if task else None,
            attempts=attempts_of(events),
            change=_change_of(events),
        )

    def _status(self, task: Task | None, reasons: Sequence[Reason] | None) -> str:
        if task is None and reasons:
            return f"not picked: {reasons[0].text}"
        if task is None or (task.is_terminal and reasons is not None and not reasons):
            return "eligible: the next tick makes a task for it"
        match task.state:
            case TaskState.QUEUED:
                return f"waiting: {self._why_waiting(task)}"
            case TaskState.RETRYABLE:
                return f"waiting: it is tried again after {task.run_after:%Y-%m-%d %H:%M:%S} UTC, since {task.reason}"
            case TaskState.RUNNING:
                return f"running: attempt {task.epoch}, phase {task.phase or 'claimed'}, by {task.worker}"
            case TaskState.BLOCKED:
                return f"stopped, waits for a human: {task.reason}"
            case TaskState.SUCCEEDED:
                return f"done: {task.reason}"
            case TaskState.FAILED | TaskState.CANCELLED:
                return f"stopped ({task.outcome or task.state}): {task.reason}"

    def _why_waiting(self, task: Task) -> str:
        limits = self.policies.limits
        running = self.store.tasks.list(states={TaskState.RUNNING})
        here = sum(t.ref.repository == task.ref.repository for t in running)
        if len(running) >= limits.running:
            return f"all {limits.running} slots are taken (limits.running_max)"
        if here >= limits.running_per_repository:
            return f"{here} tasks run in {task.ref.repository} (limits.running_per_repository_max)"
        if task.capabilities:
            return f"a worker with {', '.join(task.capabilities)} must be free"
        return "an orchestrator has to be running; a slot is free"


def _next(task: Task | None, reasons: Sequence[Reason]) -> str:
    if task is not None and (not task.is_terminal or task.state is TaskState.SUCCEEDED):
        return next_step(task)
    if reasons:
        return "; ".join(dict.fromkeys(r.fix for r in reasons if r.fix))
    return next_step(task) if task else "run `tamma orchestrate`"


def describe_task(task: Task) -> dict[str, Any]:
    """The task as JSON values, for scripts."""
    return {
        "id": task.id,
        "repository": task.ref.repository,
        "issue": task.ref.number,
        "title": task.title,
        "kind": task.kind.value,
        "generation": task.generation,
        "state": task.state.value,
        "attempt": task.epoch,
        "phase": task.phase,
        "outcome": task.outcome,
        "reason": task.reason,
        "change": task.change,
        "worker": task.worker,
        "priority": task.priority,
        "attempts": task.counters.attempts,
        "infra": task.counters.infra,
        "interruptions": task.counters.interruptions,
        "crashes": task.counters.crashes,
        "run_after": task.run_after.isoformat() if task.run_after else None,
        "created_at": task.created_at.isoformat(),
        "finished_at": task.finished_at.isoformat() if task.finished_at else None,
    }


def attempts_of(events: Sequence[Event]) -> list[AttemptStory]:
    """Every attempt in a task's stream, in order."""
    found: dict[int, AttemptStory] = {}
    for event in events:
        fact = event.fact
        if isinstance(fact, TaskClaimed):
            found[fact.epoch] = AttemptStory(epoch=fact.epoch, worker=fact.worker, started_at=event.at)
            continue
        story = found.get(getattr(fact, "epoch", 0))
        if story is not None:
            _tell(story, event)
    return list(found.values())


def _tell(story: AttemptStory, event: Event) -> None:
    match event.fact:
        case PhaseEntered(phase=phase) if phase != Phase.REPORT:  # where it ended, not that it was reported
            story.phase = phase
        case AgentFinished() as agent:
            story.agent = {"status": agent.status, "detail": agent.detail, "exit_code": agent.exit_code}
            story.repairs = agent.turn
        case TreeAudited(files=files, lines=lines):
            story.diff = {"files": files, "lines": lines}
            story.gates = []
        case GateJudged() as gate:
            story.gates.append({"gate": gate.gate, "verdict": gate.verdict, "summary": gate.summary})
        case WorkSalvaged(patch=patch):
            story.patch = patch
        case TaskSettled(outcome=outcome, reason=reason, exit_code=exit_code):
            story.outcome, story.reason, story.exit_code = outcome, reason, exit_code
            if not story.gates:
                story.gates = [
                    {"gate": "(all)", "verdict": "not asked", "summary": f"the attempt ended in {story.phase}"}
                ]
        case TaskReaped(reason=reason):
            story.outcome, story.reason = "crashed", reason
        case _:
            pass


def _change_of(events: Sequence[Event]) -> dict[str, str] | None:
    found = [e.fact for e in events if isinstance(e.fact, ChangeDelivered)]
    if not found:
        return None
    last = found[-1]
    return {"id": last.change, "url": last.url, "branch": last.branch, "commit": last.commit}
